#include "convolve.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace snnc {

void Drain::take_wide(int64_t, int64_t, int, int64_t, int64_t, int64_t*, int64_t) const { refuse("sums are wider than they may be"); }

void arrange(const Tensor& weights, Form form, Filters* out) {
  const int64_t count = weights.dims[0];
  out->form = form;
  out->depth = count == 0 ? 0 : weights.size() / count;
  const int64_t unit = form == Form::k16 ? 2 : form == Form::kBytes ? 64 : 4, width = form == Form::k16 ? 2 : 1;
  out->padded = (std::max<int64_t>(out->depth, 1) + unit - 1) / unit * unit;
  const bool split = form == Form::kBytes && width_of(weights.type) != 1;
  out->planes = split ? 2 : 1;
  out->rows.resize(static_cast<size_t>((count + 16) * out->padded * width));  // matrix registers read whole blocks
  if (split) out->upper.resize(static_cast<size_t>((count + 16) * out->padded));
  out->moved.assign(static_cast<size_t>(count), 0);
  out->norm = 0;
  std::vector<int16_t> words(static_cast<size_t>(out->depth));
  for (int64_t o = 0; o < count; ++o) {
    const char* from = static_cast<const char*>(weights.data) + o * out->depth * static_cast<int64_t>(width_of(weights.type));
    unsigned char* to = out->rows.begin + o * out->padded * width;
    if (form == Form::k16 || split) {
      to16(from, weights.type, out->depth, words.data());
      int64_t norm = 0;
      for (int16_t word : words) norm += std::abs(int{word});
      out->norm = std::max(out->norm, norm);
      if (!split) {
        std::copy(words.begin(), words.end(), reinterpret_cast<int16_t*>(to));
        continue;
      }
      for (int64_t k = 0; k < out->depth; ++k) {
        to[k] = static_cast<unsigned char>(words[k] & 0xff);
        out->upper.begin[o * out->padded + k] = static_cast<unsigned char>(words[k] >> 8);
      }
      continue;
    }
    std::memcpy(to, from, static_cast<size_t>(out->depth));
    if (form == Form::k8Signed) {
      uint32_t sum = 0;
      for (int64_t k = 0; k < out->depth; ++k) sum -= static_cast<uint32_t>(128 * static_cast<const int8_t*>(weights.data)[o * out->depth + k]);
      out->moved[o] = static_cast<int32_t>(sum);
    }
  }
}

namespace {

// Lines of inputs for one panel, one for each channel and tap.
template <class T>
void find_rows(const Walk& walk, const T* source, const T* end, int64_t inputs, int64_t first, int64_t count, int width, T* copy,
               std::vector<const T*>* rows) {
  int64_t k = 0;
  for (int64_t c = 0; c < inputs; ++c) {
    for (int64_t tap : walk.taps) {
      const T* from = source + c * walk.plane + tap;
      T* to = copy + k * kPanel;
      const T*& row = (*rows)[k++];
      if (walk.dense && (end == nullptr || from + first + width <= end)) {
        row = from + first;
        continue;
      }
      row = to;
      if (walk.dense) {
        std::memcpy(to, from + first, static_cast<size_t>(count) * sizeof(T));
      } else {
        const int stride = walk.step;
        stretches(walk, first, count, [&](int64_t line, int64_t inside, int64_t offset, int64_t length) {
          const T* x = from + walk.starts[line] + inside * stride;
          for (int64_t i = 0; i < length; ++i) to[offset + i] = x[stride * i];
        });
      }
      std::fill(to + count, to + width, T{0});
    }
  }
}

constexpr int64_t kTile = int64_t{kTileRows} * kPanel;

}  // namespace

template <class T>
void convolve(const Call& call, const Walk& walk, const Planes<T>& planes, int64_t samples, int64_t channels, int64_t groups,
              int64_t outputs, const Filters& weights, bool wide, const Drain& drain) {
  const int64_t inputs = channels / groups, per_group = outputs / groups;
  const int64_t panels = (walk.count + kPanel - 1) / kPanel, depth = weights.padded;
  const double cost = static_cast<double>(per_group * depth * kPanel) / 60.0 + static_cast<double>(depth * kPanel) / 4.0;
  call.parallel(samples * groups * panels, cost, [&](int64_t begin, int64_t end) {
    thread_local Scratch panel_scratch, sums_scratch, wide_scratch, copy_scratch;
    T* panel = panel_scratch.as<T>(static_cast<size_t>(depth * kPanel * planes.count));
    T* copy = copy_scratch.as<T>(static_cast<size_t>(depth * kPanel));
    const int parts = wide ? planes.count * weights.planes : 1;
    int32_t* sums = sums_scratch.as<int32_t>(static_cast<size_t>(kTile * parts));
    int64_t* total = wide ? wide_scratch.as<int64_t>(kTile) : nullptr;
    const MatrixGuard guard(weights.form == Form::kBytes);
    std::vector<const T*> rows(static_cast<size_t>(depth));
    for (int64_t job = begin; job < end; ++job) {
      const int64_t which = job / panels, first = job % panels * kPanel;
      const int64_t sample = which / groups, group = which % groups;
      const int64_t count = std::min<int64_t>(kPanel, walk.count - first);
      const int width = static_cast<int>((count + kGranule - 1) / kGranule * kGranule);
      for (int p = 0; p < planes.count; ++p) {
        const T* source = planes.data[p] + (sample * channels + group * inputs) * walk.plane;
        find_rows(walk, source, planes.end[p], inputs, first, count, width, copy, &rows);
        for (int64_t k = weights.depth; k < depth; ++k) rows[k] = rows[0];  // meets zero weights
        if constexpr (sizeof(T) == 1) {
          kernels().quads8(rows.data(), depth, width, panel + p * depth * kPanel);
        } else {
          kernels().pairs16(rows.data(), depth, width, panel + p * depth * kPanel);
        }
      }
      const int64_t start = group * per_group * depth * static_cast<int64_t>(sizeof(T));
      for (int64_t o = 0; o < per_group; o += kTileRows) {
        const int some = static_cast<int>(std::min<int64_t>(kTileRows, per_group - o));
        const int64_t channel = group * per_group + o, offset = start + o * depth * static_cast<int64_t>(sizeof(T));
        const unsigned char* left = weights.rows.begin + offset;
        if (wide) {
          const int32_t* part[8];
          int shift[8], n = 0;
          for (int q = 0; q < planes.count; ++q) {
            const T* right = panel + q * depth * kPanel;
            if constexpr (sizeof(T) == 1) {
              for (int p = 0; p < weights.planes; ++p, ++n) {
                const bool last = p + 1 == weights.planes;
                const unsigned char* mine = p == 0 ? left : weights.upper.begin + offset;
                const BytesProduct bytes{{mine, nullptr}, nullptr, 1, !last, depth, {right, nullptr}, 1,
                                         planes.is_unsigned && q + 1 < planes.count, depth, some, width};
                kernels().product_bytes(bytes, sums + n * kTile, kPanel);
                part[n] = sums + n * kTile;
                shift[n] = 8 * p + planes.bits * q;
              }
            } else {
              kernels().product16(reinterpret_cast<const int16_t*>(left), depth, right, depth, some, width, nullptr,
                                  sums + n * kTile, kPanel);
              part[n] = sums + n * kTile;
              shift[n++] = planes.bits * q;
            }
          }
          kernels().gather_parts(part, shift, n, int64_t{some} * kPanel, total);
          drain.take_wide(sample, channel, some, first, count, total, kPanel);
          continue;
        }
        if constexpr (sizeof(T) == 1) {
          const int8_t* ours = reinterpret_cast<const int8_t*>(left);
          if (weights.form == Form::kBytes) {
            const BytesProduct bytes{{ours, nullptr}, nullptr, 1, false, depth, {panel, panel + depth * kPanel}, planes.count,
                                     planes.is_unsigned, depth, some, width};
            kernels().product_bytes(bytes, sums, kPanel);
          } else {
            kernels().product8_signed_rows(ours, depth, panel, depth, some, width, nullptr, sums, kPanel);
          }
        } else {
          kernels().product16(reinterpret_cast<const int16_t*>(left), depth, panel, depth, some, width, nullptr, sums, kPanel);
        }
        if (weights.form == Form::k8Signed) {
          for (int r = 0; r < some; ++r) {
            kernels().add(sums + r * kPanel, &weights.moved[channel + r], 0, width, sums + r * kPanel);
          }
        }
        drain.take(sample, channel, some, first, count, sums, kPanel);
      }
    }
  });
}

template void convolve(const Call&, const Walk&, const Planes<int16_t>&, int64_t, int64_t, int64_t, int64_t, const Filters&, bool,
                       const Drain&);
template void convolve(const Call&, const Walk&, const Planes<uint8_t>&, int64_t, int64_t, int64_t, int64_t, const Filters&, bool,
                       const Drain&);

namespace {

void weigh(const int16_t* const* taps, const int32_t* weights, int count_of_taps, int stride, int64_t count, int32_t* out) {
  kernels().weigh(taps, weights, count_of_taps, stride, count, out);
}
void weigh(const uint8_t* const* taps, const int32_t* weights, int count_of_taps, int stride, int64_t count, int32_t* out) {
  kernels().weigh_u8(taps, weights, count_of_taps, stride, count, out);
}
void weigh(const int8_t* const* taps, const int32_t* weights, int count_of_taps, int stride, int64_t count, int32_t* out) {
  kernels().weigh_i8(taps, weights, count_of_taps, stride, count, out);
}

}  // namespace

template <class T>
void convolve_depthwise(const Call& call, const Walk& walk, const T* planes, int64_t samples, int64_t channels, int64_t outputs,
                        const Filters& weights, const Drain& drain) {
  const std::vector<int64_t>& taps = walk.taps;
  const int64_t each = outputs / channels;
  // Small planes are finished several at a time.
  const int64_t together = std::clamp<int64_t>(kTile / walk.count, 1, 16), turns = (outputs + together - 1) / together;
  const double cost = static_cast<double>(together * walk.count) * static_cast<double>(taps.size()) / 16.0;
  call.parallel(samples * turns, cost, [&](int64_t begin, int64_t end) {
    thread_local Scratch memory;
    int32_t* sums = memory.as<int32_t>(static_cast<size_t>(together * walk.count));
    // All lines of a plane in one pass, margins included, where they are evenly apart.
    const int64_t pieces = walk.dense ? 1 : walk.lines, length = walk.dense ? walk.count : walk.width;
    std::vector<const T*> at(taps.size());
    std::vector<int32_t> factor(taps.size());
    for (int64_t job = begin; job < end; ++job) {
      const int64_t sample = job / turns, first = job % turns * together, some = std::min(together, outputs - first);
      for (int64_t o = first; o < first + some; ++o) {
        const T* source = planes + (sample * channels + o / each) * walk.plane;
        const int16_t* row = reinterpret_cast<const int16_t*>(weights.rows.begin) + o * weights.padded;
        int32_t* to = sums + (o - first) * walk.count;
        for (size_t t = 0; t < taps.size(); ++t) factor[t] = row[t];
        for (int64_t piece = 0; piece < pieces; ++piece) {
          const int64_t start = walk.dense ? 0 : walk.starts[piece];
          for (size_t t = 0; t < taps.size(); ++t) at[t] = source + start + taps[t];
          weigh(at.data(), factor.data(), static_cast<int>(taps.size()), walk.step, length, to + piece * walk.line);
        }
      }
      drain.take(sample, first, static_cast<int>(some), 0, walk.count, sums, walk.count);
    }
  });
}

template void convolve_depthwise(const Call&, const Walk&, const int16_t*, int64_t, int64_t, int64_t, const Filters&, const Drain&);
template void convolve_depthwise(const Call&, const Walk&, const uint8_t*, int64_t, int64_t, int64_t, const Filters&, const Drain&);
template void convolve_depthwise(const Call&, const Walk&, const int8_t*, int64_t, int64_t, int64_t, const Filters&, const Drain&);

int64_t compact(const Walk& walk, int64_t first, int64_t count, int rows, int32_t* c, int64_t ldc, int64_t* place) {
  int64_t kept = 0;
  *place = -1;
  stretches(walk, first, count, [&](int64_t line, int64_t inside, int64_t offset, int64_t length) {
    if (*place < 0) *place = line * walk.width + inside;
    if (offset != kept) kernels().forward(c + kept, c + offset, length, rows, ldc);
    kept += length;
  });
  return kept;
}

}  // namespace snnc
