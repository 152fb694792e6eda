// How a convolution walks over its input: phases, taps, lines of results.
#pragma once

#include <algorithm>
#include <vector>

#include "window.h"

namespace snnc {

// How the results of a convolution are numbered, and its inputs laid out. With at most two spatial axes the padded
// plane is taken apart into phases, one for each remainder modulo the strides; the results run over one phase, so
// that each tap is one constant offset (results in its margin are thrown away). Otherwise the plane stays whole and
// the results are numbered by themselves.
struct Walk {
  bool dense;
  int64_t line;    // numbers of one line of results: the width of a phase, or of the result
  int64_t width;   // results of a line that count
  int64_t lines;   // lines of results
  int64_t count;   // all numbers
  int64_t plane;   // numbers of the input laid out
  Shape extent, used;             // dense: extents of a phase, phases of each axis
  std::vector<int64_t> taps;      // offset of each tap
  std::vector<int64_t> starts;    // offset of each line of results
  int step;                       // between the inputs of neighbouring results
};

inline Walk walk_of(const Window& w, bool whole = false) {
  Walk walk;
  walk.dense = w.rank <= 2 && !whole;
  walk.width = w.out.back();
  walk.lines = product(w.out) / walk.width;
  if (!walk.dense) {
    walk.line = walk.width;
    walk.plane = product(w.padded);
    walk.taps = tap_offsets(w);
    walk.starts = line_offsets(w);
    walk.step = static_cast<int>(w.strides.back());
    walk.count = walk.lines * walk.line;
    return walk;
  }
  for (size_t axis = 0; axis < w.in.size(); ++axis) {
    const int64_t reach = (w.kernel[axis] - 1) * w.dilations[axis], stride = w.strides[axis];
    walk.extent.push_back(w.out[axis] + reach / stride);
    walk.used.push_back(std::min(stride, reach + 1));
  }
  walk.line = walk.extent.back();
  walk.count = (walk.lines - 1) * walk.line + walk.width;
  walk.step = 1;
  const int64_t phase = product(walk.extent);
  walk.plane = phase * product(walk.used);
  walk.taps.assign(1, 0);
  for (size_t axis = 0; axis < w.in.size(); ++axis) {
    const int64_t across = phase * product(walk.used, axis + 1), along = product(walk.extent, axis + 1);
    std::vector<int64_t> next;
    for (int64_t base : walk.taps) {
      for (int64_t k = 0; k < w.kernel[axis]; ++k) {
        const int64_t at = k * w.dilations[axis];
        next.push_back(base + at % w.strides[axis] * across + at / w.strides[axis] * along);
      }
    }
    walk.taps.swap(next);
  }
  for (int64_t line = 0; line < walk.lines; ++line) walk.starts.push_back(line * walk.line);
  return walk;
}

// Takes a plane apart into phases, each value turned by `turn`; what is outside of it is `fill`.
template <class From, class To, class F>
inline void lay_out(const Window& w, const Walk& walk, const From* from, To fill, To* to, F turn) {
  const bool flat = w.rank == 1;
  const int64_t height = flat ? 1 : w.in[0], width = w.in.back();
  const int64_t stride_y = flat ? 1 : w.strides[0], stride_x = w.strides.back();
  const int64_t top = flat ? 0 : w.begins[0], left = w.begins.back();
  const int64_t phases_y = flat ? 1 : walk.used[0], extent_y = flat ? 1 : walk.extent[0], extent_x = walk.extent.back();
  for (int64_t py = 0; py < phases_y; ++py) {
    for (int64_t px = 0; px < walk.used.back(); ++px) {
      // Columns begin .. end of the phase are inside.
      const int64_t shift = left - px;
      const int64_t begin = std::clamp<int64_t>(shift <= 0 ? 0 : (shift + stride_x - 1) / stride_x, 0, extent_x);
      const int64_t inside = width - 1 + shift;
      const int64_t end = std::clamp<int64_t>(inside < 0 ? 0 : inside / stride_x + 1, begin, extent_x);
      for (int64_t y = 0; y < extent_y; ++y, to += extent_x) {
        const int64_t row = y * stride_y + py - top;
        if (row < 0 || row >= height) {
          std::fill(to, to + extent_x, fill);
          continue;
        }
        const From* line = from + row * width;
        std::fill(to, to + begin, fill);
        if (stride_x == 1) {
          for (int64_t x = begin; x < end; ++x) to[x] = turn(line[x - shift]);
        } else if (stride_x == 2) {
          for (int64_t x = begin; x < end; ++x) to[x] = turn(line[2 * x - shift]);
        } else {
          for (int64_t x = begin; x < end; ++x) to[x] = turn(line[stride_x * x - shift]);
        }
        std::fill(to + end, to + extent_x, fill);
      }
    }
  }
}

// Calls body(line, position in line, offset in panel, length) for the stretches of a panel that count.
template <class F>
inline void stretches(const Walk& walk, int64_t first, int64_t count, F body) {
  for (int64_t at = first; at < first + count;) {
    const int64_t line = at / walk.line, inside = at % walk.line;
    const int64_t length = std::min(first + count - at, walk.line - inside);
    const int64_t useful = std::min(length, walk.width - inside);
    if (useful > 0) body(line, inside, at - first, useful);
    at += length;
  }
}

}  // namespace snnc
