// The inner loops, one table of them for each instruction set; `kernels()` picks the best that the machine has.
//
// All loops are on integers, or on doubles that hold integers exactly, so every table gives the same bits.
#pragma once

#include <cstdint>

namespace snnc {

constexpr int kPanel = 64;  // columns of a full panel; the last one is narrower, a multiple of kGranule
constexpr int kGranule = 16;

// How a potential becomes a code (see neuron.h). Arrays run along the positions of a line; with `shared` every position
// uses element 0.
struct FireLine {
  int mode;                    // FireMode
  bool shared;
  bool by_row;                 // with `shared`: line r of several uses element r
  const double* scale;         // exact mode
  const double* offset;
  const float* scale32;        // near mode; exact mode where these do as well, else null
  const float* offset32;
  float doubt;                 // exact: how near to a border single precision may be wrong; 0 where it never is
  const int32_t* first_cell;   // start of the row's part of `cells` or `marks`
  const int32_t* first_limit;  // start of the row's part of `limits`
  const int16_t* cells;        // exact: code of each cell
  const int16_t* folded;       // exact: the upper half of `cells`, if the lower one mirrors it and kFoldedCells hold it
  const uint8_t* bytes;        // exact: `folded`, else `cells`, if at most 512 and all bytes; null where `permutes_bytes` is false
  const uint32_t* marks;       // near: of each cell, where its limit begins << 16 | kWide | limits below it
  const int16_t* marks16;      // near: the upper halves of `marks`, then the lower ones, if there are at most kNearCells
  const int16_t* codes16;      // near: `codes`, with room for a multiple of 64, if they are at most kNearCodes
  int inside;                  // near: bits of a place inside its cell
  int window;                  // near: places from where a limit begins on at which it must be compared
  const int32_t* limits;       // ascending thresholds of each row, padded with unreachable ones
  const int32_t* codes;        // code of each count
  const int32_t* columns;      // few: limit j of every position at columns + j * columns_pitch
  int64_t columns_pitch;
  int count;                   // limits of a row
  int last_cell;
  int steps;                   // search, few: rounds
};

// The limits of a wide cell are compared one after the other; behind kUnknown they are searched.
constexpr uint32_t kWide = 0x8000, kUnknown = 0x7fff;
constexpr int kNearCodes = 512, kNearCells = 512, kFoldedCells = 512;

enum FireMode : int { kExact = 0, kNear = 1, kSearch = 2, kFew = 3 };

// Products of bytes in matrix registers: the sum over planes of rows[p] * panels[q]. A number of more than a byte
// is the sum of two planes.
struct BytesProduct {
  const void* rows[2];         // row-major, `pitch` bytes apart; room for a multiple of 16 rows
  const unsigned char* live;   // for plane 1 of the rows: whether 16 rows x 64 of depth hold anything
  int row_planes;
  bool rows_unsigned;
  int64_t pitch;
  const void* panels[2];       // depth in quadruples
  int panel_planes;
  bool panels_unsigned;
  int64_t depth;               // a multiple of 64
  int count, width;
};

// What becomes of the sums of some channels before they are potentials, modulo 2^32:
// round(v * before + bias, shift) * factor + constant + other * weight, without the rounding if shift < 0. The numbers
// are one for each line; `before` and `bias` only count with a shift.
struct FinishLines {
  const int32_t *before, *bias, *factor, *constant, *weight;
  int shift;
  const int32_t* other;  // may be null
  int64_t other_pitch;
};

// What is left of a line of 16-bit numbers when as much of each as fits a signed byte is taken away: quadruples of
// unsigned bytes that are not all 0, and which quadruples of the line they are. Room for 8 more than the line has.
struct Rests {
  int32_t* steps;
  uint32_t* quads;
  int* count;
};

struct Kernels {
  const char* name;
  // Null where the machine has no matrix registers. `begin` sets them up for this thread, `end` frees them.
  void (*begin_bytes)();
  void (*product_bytes)(const BytesProduct& job, int32_t* c, int64_t ldc);
  void (*end_bytes)();
  // x = low + high, both bytes; -256 <= x <= 254. Returns whether any `high` of the line is not 0 in each 64.
  void (*split16)(const int16_t* x, int64_t count, int8_t* low, int8_t* high, unsigned char* live);
  int (*largest16)(const int16_t* x, int64_t count);  // max |x|
  // c (rows x width, ldc) = start (per column, may be null) + a (rows x depth) * panel (depth x width, in pairs
  // or quadruples of depth). width is a multiple of kGranule, at most kPanel.
  void (*product16)(const int16_t* a, int64_t lda, const int16_t* panel, int64_t depth, int rows, int width,
                    const int32_t* start, int32_t* c, int64_t ldc);
  // 8-bit forms, null where the machine has none: one side unsigned, the other signed.
  void (*product8_unsigned_rows)(const uint8_t* a, int64_t lda, const int8_t* panel, int64_t depth, int rows,
                                 int width, const int32_t* start, int32_t* c, int64_t ldc);
  void (*product8_signed_rows)(const int8_t* a, int64_t lda, const uint8_t* panel, int64_t depth, int rows,
                               int width, const int32_t* start, int32_t* c, int64_t ldc);
  // 16-bit numbers up to 255 in 8-bit products, null where those are. How many groups of four hold one beyond a signed
  // byte, and the ends of the range of all numbers and 0; a line as bytes, its numbers plus `moved`, and what is left of
  // it, above and below; the products of what is left, added to a line of sums.
  int64_t (*large_quads)(const int16_t* x, int64_t count, int* least, int* most);
  void (*part16)(const int16_t* x, int64_t count, int moved, uint8_t* near, const Rests& more, const Rests& less);
  void (*product8_rests)(const Rests& more, const Rests& less, const int8_t* panel, int width, int32_t* c);
  // Potentials to codes; `rows` lines that are `pitch` and `out_pitch` apart.
  void (*fire8)(const FireLine& line, const int32_t* v, int64_t pitch, int64_t rows, int64_t count, int8_t* out, int64_t out_pitch);
  void (*fire16)(const FireLine& line, const int32_t* v, int64_t pitch, int64_t rows, int64_t count, int16_t* out, int64_t out_pitch);
  void (*fire32)(const FireLine& line, const int32_t* v, int64_t pitch, int64_t rows, int64_t count, int32_t* out, int64_t out_pitch);
  // floor(v * factor / gain) for |v| * factor < 2^52, gain >= 1.
  void (*quotient32)(const int32_t* v, double factor, double gain, int64_t count, int32_t* out);
  void (*quotient64)(const int64_t* v, double factor, double gain, int64_t count, int32_t* out);
  // Elementwise; b_step is 0 (one number) or 1.
  void (*add)(const int32_t* a, const int32_t* b, int b_step, int64_t count, int32_t* out);
  void (*multiply)(const int32_t* a, const int32_t* b, int b_step, int64_t count, int32_t* out);
  void (*round32)(const int32_t* v, int shift, int64_t count, int32_t* out);
  void (*round64)(const int64_t* v, int shift, int64_t count, int32_t* out);
  int32_t (*largest)(const int32_t* v, int64_t count);
  int32_t (*smallest)(const int32_t* v, int64_t count);
  void (*sums)(const int32_t* v, int64_t count, int64_t* sum, int64_t* squares);
  void (*norm_potential)(const int32_t* r, const int32_t* sign, int64_t factor, int64_t total, int64_t count, int64_t* out);
  void (*widen_u8)(const uint8_t* x, int64_t count, int16_t* out);
  void (*widen_i8)(const int8_t* x, int64_t count, int16_t* out);
  void (*flip8)(const uint8_t* x, int64_t count, uint8_t* out);  // adds 128 modulo 256
  // Interleaves depth rows (each `width` long, `stride` apart) of a panel in pairs or quadruples.
  void (*pairs16)(const int16_t* const* rows, int64_t depth, int width, int16_t* panel);
  void (*quads8)(const uint8_t* const* rows, int64_t depth, int width, uint8_t* panel);
  // Lines of bytes into a plane whose lines are `pitch` long: `left` of `fill`, the line's `width` bytes with the bits of
  // `flip` turned, and `fill` to the end.
  void (*margins8)(const uint8_t* from, int64_t width, int64_t lines, int64_t left, int64_t pitch, uint8_t fill, uint8_t flip,
                   uint8_t* to);
  // out[i] = sum over taps of weights[t] * taps[t][i * stride].
  void (*weigh)(const int16_t* const* taps, const int32_t* weights, int count_of_taps, int stride, int64_t count, int32_t* out);
  void (*weigh_u8)(const uint8_t* const* taps, const int32_t* weights, int count_of_taps, int stride, int64_t count, int32_t* out);
  void (*weigh_i8)(const int8_t* const* taps, const int32_t* weights, int count_of_taps, int stride, int64_t count, int32_t* out);
  // Lines of sums, in place.
  void (*finish)(const FinishLines& job, int32_t* v, int64_t pitch, int64_t rows, int64_t count);
  // The same for sums whose channels lie side by side: the numbers are one for each position.
  void (*finish_positions)(const FinishLines& job, const int32_t* v, int64_t pitch, int64_t rows, int64_t count, int32_t* out,
                           int64_t out_pitch);
  // Moves a block of several lines forward, where it may overlap itself.
  void (*forward)(int32_t* to, const int32_t* from, int64_t count, int64_t rows, int64_t pitch);
  // out = the sum of parts[p] * 2^shifts[p].
  void (*gather_parts)(const int32_t* const* parts, const int* shifts, int part_count, int64_t count, int64_t* out);
  // Sums of elements `stride` apart.
  void (*gather_add)(const int32_t* x, int stride, int64_t count, int32_t* out);
};

const Kernels& kernels();
bool permutes_bytes();  // whether the machine looks bytes up in registers (AVX-512 VBMI)

extern const Kernels kBaseline;
#if defined(SNNC_X86)
extern const Kernels kAvx2;
extern const Kernels kAvx512;
extern const Kernels kVnni;
#if !defined(SNNC_NO_AMX)
extern const Kernels kAmx;
#endif
#endif

}  // namespace snnc
