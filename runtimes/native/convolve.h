// Integer convolutions: columns of codes are interleaved panel by panel and multiplied by the weights.
#pragma once

#include <vector>

#include "kernels.h"
#include "op.h"
#include "product.h"
#include "walk.h"

namespace snnc {

// Takes the sums of one panel: rows [row, row + rows) of output channels, numbers [first, first + count) of the walk.
// It may change them.
struct Drain {
  virtual ~Drain() = default;
  virtual void take(int64_t sample, int64_t channel, int rows, int64_t first, int64_t count, int32_t* c, int64_t ldc) const = 0;
  // The same of 64-bit sums.
  virtual void take_wide(int64_t sample, int64_t channel, int rows, int64_t first, int64_t count, int64_t* c, int64_t ldc) const;
};

// Weights as rows: (O, depth) with padding, in bytes or 16-bit words; or 16-bit words as two planes of bytes, the lower
// one unsigned.
struct Filters {
  Form form = Form::k16;
  int64_t depth = 0, padded = 0;
  AlignedBytes rows, upper;
  int planes = 1;
  std::vector<int32_t> moved;  // k8Signed: minus 128 times the sum of each row, modulo 2^32
  int64_t norm = 0;            // largest sum of a row's absolute weights, for 16-bit rows
};

void arrange(const Tensor& weights, Form form, Filters* out);

// Padded inputs, shape (N * C, plane), in planes whose sum they are; `width` bits apart, if sums are wide. Only the
// first plane may be unsigned.
template <class T>
struct Planes {
  const T* data[3];
  int count = 1;
  bool is_unsigned = true;
  int bits = 0;
  const T* end[3] = {nullptr, nullptr, nullptr};  // what may be read of a plane ends here; null: there is room
};

template <class T>
void convolve(const Call& call, const Walk& walk, const Planes<T>& planes, int64_t samples, int64_t channels, int64_t groups,
              int64_t outputs, const Filters& weights, bool wide, const Drain& drain);

extern template void convolve(const Call&, const Walk&, const Planes<int16_t>&, int64_t, int64_t, int64_t, int64_t, const Filters&,
                              bool, const Drain&);
extern template void convolve(const Call&, const Walk&, const Planes<uint8_t>&, int64_t, int64_t, int64_t, int64_t, const Filters&,
                              bool, const Drain&);

// Every output channel reads one input channel. Weights in 16 bits; planes of int16, uint8 or int8.
template <class T>
void convolve_depthwise(const Call& call, const Walk& walk, const T* planes, int64_t samples, int64_t channels, int64_t outputs,
                        const Filters& weights, const Drain& drain);

// Moves the sums of a panel that count to the front of each line; returns how many they are, and the first one's place.
int64_t compact(const Walk& walk, int64_t first, int64_t count, int rows, int32_t* c, int64_t ldc, int64_t* place);

}  // namespace snnc
