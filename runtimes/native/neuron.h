// The neuron's table, made ready for the inner loops.
//
// k = #{j : v >= limits[row, j]} is found in one of four ways, whichever the table admits:
//   exact:  the limits of every row are where an affine map of v passes fixed cell borders (proved for each limit
//           when the table is made), so the cell gives the code and no limit is read;
//   near:   an affine map gives a cell and a place inside it, and most cells hold one limit at most, which begins in all
//           rows that share the cell within a few places; the potentials at those are compared with their own limit;
//   few:    at most 31 limits, all compared, or searched in registers;
//   search: a binary search.
#pragma once

#include <vector>

#include "broadcast.h"
#include "kernels.h"
#include "op.h"

namespace snnc {

class FireTable {
 public:
  // thresholds: int32 (R, K), K = 2^depth - 1; those beyond codes.size() - 1 are padding.
  FireTable(const Tensor& thresholds, const std::vector<int64_t>& codes, int64_t depth);

  FireMode mode() const { return mode_; }
  int64_t rows() const { return rows_; }

  // Parameters of a line of positions.
  struct Positions {
    std::vector<double> scale, offset;
    std::vector<float> scale32, offset32;
    std::vector<int32_t> first_cell, first_limit;
    std::vector<int32_t> columns;  // limit j of every position, one j after the other
  };
  void place(const int32_t* rows, int64_t count, Positions* positions) const;
  FireLine line(const Positions& positions, int64_t at, bool shared) const;

 private:
  bool fit_exact();
  void merge_limits();
  bool fit_near();
  int64_t near_cells() const;

  FireMode mode_ = kSearch;
  int64_t rows_, count_, stride_;  // count_: limits of a row; stride_: with padding
  std::vector<int32_t> limits_, codes_;
  std::vector<int16_t> cells_, folded_, marks16_, codes16_;
  std::vector<uint8_t> bytes_;
  std::vector<uint32_t> marks_;
  std::vector<double> scale_, offset_;
  std::vector<float> scale32_, offset32_;
  std::vector<int32_t> first_cell_;
  float doubt_ = 0;
  int last_cell_ = 0, steps_ = 0, inside_ = 0, window_ = 0;
};

// How the row numbers lie over the potentials; checks that they are in range.
Broadcast plan_rows(const Shape& v, const Tensor& rows, int64_t row_count);

// Writes codes of `width` bytes; of several lines with the same parameters, or of one.
void fire_lines(const FireLine& line, const int32_t* v, int64_t pitch, int64_t rows, int64_t count, int width, void* out,
                int64_t out_pitch);
void fire_line(const FireLine& line, const int32_t* v, int64_t count, int width, void* out);

}  // namespace snnc
