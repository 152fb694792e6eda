// Sliding windows: extents, padding, defaults.
#pragma once

#include <algorithm>

#include "op.h"

namespace snnc {

constexpr int64_t kMostExtent = int64_t{1} << 31;  // of a window, its steps and margins: no product of two overflows
constexpr int64_t kMostPlane = int64_t{1} << 32;   // elements of a padded plane

struct Window {
  int64_t rank = 0;
  Shape in, kernel, out, strides, dilations, begins;  // per spatial axis
  int64_t taps = 1;
  // Extents of the padded plane that the windows read.
  Shape padded;
};

inline Window window_of(const Shape& in, const Shape& kernel, const Shape& strides, const Shape& pads,
                        const Shape& dilations, bool partial = false) {
  Window w;
  w.rank = static_cast<int64_t>(in.size());
  require(kernel.size() == in.size(), "the window has the wrong number of axes");
  auto all = [&](const Shape& given, int64_t fallback, size_t count, const char* what) {
    if (given.empty()) return Shape(count, fallback);
    require(given.size() == count, what);
    return given;
  };
  w.in = in;
  w.kernel = kernel;
  w.strides = all(strides, 1, in.size(), "strides have the wrong length");
  w.dilations = all(dilations, 1, in.size(), "dilations have the wrong length");
  int64_t plane = 1;
  const Shape margin = all(pads, 0, 2 * in.size(), "pads have the wrong length");
  for (size_t axis = 0; axis < in.size(); ++axis) {
    require(kernel[axis] >= 1 && w.strides[axis] >= 1 && w.dilations[axis] >= 1, "a window extent is not positive");
    require(std::max({kernel[axis], w.strides[axis], w.dilations[axis]}) < kMostExtent, "a window extent is too large");
    const int64_t begin = margin[axis], end = margin[axis + in.size()];
    require(begin >= 0 && end >= 0, "negative padding");
    require(std::max(begin, end) < kMostExtent, "the padding is too large");
    const int64_t reach = (kernel[axis] - 1) * w.dilations[axis] + 1;
    const int64_t room = in[axis] + begin + end - reach;
    require(room >= 0, "the window is larger than its input");
    int64_t count = room / w.strides[axis] + 1;
    if (partial && room % w.strides[axis] != 0 && count * w.strides[axis] < in[axis] + begin) ++count;
    w.out.push_back(count);
    w.begins.push_back(begin);
    w.padded.push_back(std::max(in[axis] + begin + end, (count - 1) * w.strides[axis] + reach));
    w.taps *= kernel[axis];
    require(w.padded.back() < kMostPlane / plane, "the padded input is too large");
    plane *= w.padded.back();
  }
  return w;
}

// Offsets of the kernel's taps in the padded plane.
inline std::vector<int64_t> tap_offsets(const Window& w) {
  std::vector<int64_t> offsets(1, 0);
  for (int64_t axis = 0; axis < w.rank; ++axis) {
    const int64_t stride = product(w.padded, static_cast<size_t>(axis) + 1) * w.dilations[axis];
    std::vector<int64_t> next;
    for (int64_t base : offsets) {
      for (int64_t k = 0; k < w.kernel[axis]; ++k) next.push_back(base + k * stride);
    }
    offsets.swap(next);
  }
  return offsets;
}

// Offsets in the padded plane of the first window of each line of results (all axes but the last).
inline std::vector<int64_t> line_offsets(const Window& w) {
  std::vector<int64_t> offsets(1, 0);
  for (int64_t axis = 0; axis + 1 < w.rank; ++axis) {
    const int64_t stride = product(w.padded, static_cast<size_t>(axis) + 1) * w.strides[axis];
    std::vector<int64_t> next;
    for (int64_t base : offsets) {
      for (int64_t k = 0; k < w.out[axis]; ++k) next.push_back(base + k * stride);
    }
    offsets.swap(next);
  }
  return offsets;
}

// Copies a plane into its padded form, each value turned by `turn`; the margin holds `fill`.
template <class From, class To, class F>
void pad_plane(const Window& w, const From* from, To fill, To* to, F turn) {
  const int64_t size = product(w.padded);
  const int64_t width = w.in.back();
  if (size != product(w.in)) std::fill(to, to + size, fill);
  const int64_t lines = product(w.in) / std::max<int64_t>(1, width);
  for (int64_t line = 0; line < lines && width > 0; ++line) {
    int64_t rest = line, at = w.begins.back(), stride = w.padded.back();
    for (int64_t axis = w.rank - 1; axis-- > 0;) {
      at += (rest % w.in[axis] + w.begins[axis]) * stride;
      rest /= w.in[axis];
      stride *= w.padded[axis];
    }
    for (int64_t i = 0; i < width; ++i) to[at + i] = turn(from[line * width + i]);
  }
}

}  // namespace snnc
