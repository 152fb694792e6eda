// All planes of a tensor laid out as a convolution walks over them.
#pragma once

#include <algorithm>
#include <cstring>

#include "kernels.h"
#include "op.h"
#include "walk.h"

namespace snnc {

// Each number turned by `turn`; `fill` is outside of the planes.
template <class T, class F>
void pad_all(const Call& call, const Window& w, const Walk& walk, const Tensor& x, T fill, T* planes, F turn) {
  const int64_t count = x.dims[0] * x.dims[1], from_size = product(w.in), to_size = walk.plane;
  call.parallel(count, 0.3 * static_cast<double>(to_size), [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; ++at) {
      auto each = [&](const auto* from) {
        if (walk.dense) {
          lay_out(w, walk, from + at * from_size, fill, planes + at * to_size, turn);
        } else {
          pad_plane(w, from + at * from_size, fill, planes + at * to_size, turn);
        }
      };
      switch (x.type) {
        case Type::kU8:
          each(x.as<uint8_t>());
          break;
        case Type::kI8:
          each(x.as<int8_t>());
          break;
        case Type::kI16:
          each(x.as<int16_t>());
          break;
        case Type::kI32:
          each(x.as<int32_t>());
          break;
        default:
          refuse("a convolution of this element type");
      }
    }
  });
}

// Bytes, each with the bits of `flip` turned; `fill` is outside of the planes.
inline void pad_bytes(const Call& call, const Window& w, const Walk& walk, const Tensor& x, uint8_t fill, uint8_t flip, uint8_t* planes) {
  const auto one = [](int64_t phases) { return phases == 1; };
  if (x.size() == 0 || !walk.dense || !std::all_of(walk.used.begin(), walk.used.end(), one) || walk.extent != w.padded) {
    pad_all(call, w, walk, x, fill, planes, [flip](auto v) { return static_cast<uint8_t>(static_cast<uint8_t>(v) ^ flip); });
    return;
  }
  const bool flat = w.rank == 1;
  const int64_t lines = flat ? 1 : w.in[0], width = w.in.back(), pitch = walk.line, size = lines * width;
  const int64_t before = flat ? 0 : w.begins[0] * pitch, behind = walk.plane - before - lines * pitch;
  call.parallel(x.dims[0] * x.dims[1], 0.1 * static_cast<double>(walk.plane), [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; ++at) {
      uint8_t* to = planes + at * walk.plane;
      if (before > 0) std::memset(to, fill, static_cast<size_t>(before));
      kernels().margins8(x.as<uint8_t>() + at * size, width, lines, w.begins.back(), pitch, fill, flip, to + before);
      if (behind > 0) std::memset(to + before + lines * pitch, fill, static_cast<size_t>(behind));
    }
  });
}

}  // namespace snnc
