// SpikeConv and HostConv: columns of codes are interleaved panel by panel and multiplied by the weights.

#include <algorithm>
#include <cstring>
#include <mutex>

#include "op.h"
#include "product.h"
#include "window.h"

namespace snnc {
namespace {

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

Walk walk_of(const Window& w, bool whole = false) {
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
void lay_out(const Window& w, const Walk& walk, const From* from, To fill, To* to, F turn) {
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

// Takes the sums of one panel: rows [row, row + rows) of output channels, numbers [first, first + count).
struct Drain {
  virtual ~Drain() = default;
  virtual void take(int64_t sample, int64_t channel, int rows, int64_t first, int64_t count, const int32_t* c,
                    int64_t ldc) const = 0;
};

// Calls body(line, position in line, offset in panel, length) for the stretches of a panel that count.
template <class F>
void stretches(const Walk& walk, int64_t first, int64_t count, F body) {
  for (int64_t at = first; at < first + count;) {
    const int64_t line = at / walk.line, inside = at % walk.line;
    const int64_t length = std::min(first + count - at, walk.line - inside);
    const int64_t useful = std::min(length, walk.width - inside);
    if (useful > 0) body(line, inside, at - first, useful);
    at += length;
  }
}

struct Int32Drain : Drain {
  const Walk& walk;
  int64_t channels, results;
  int32_t* out;
  Int32Drain(const Walk& w, int64_t o, int64_t r, int32_t* to) : walk(w), channels(o), results(r), out(to) {}
  void take(int64_t sample, int64_t channel, int rows, int64_t first, int64_t count, const int32_t* c,
            int64_t ldc) const override {
    stretches(walk, first, count, [&](int64_t line, int64_t inside, int64_t offset, int64_t length) {
      for (int r = 0; r < rows; ++r) {
        int32_t* to = out + ((sample * channels + channel + r) * results + line * walk.width + inside);
        std::memcpy(to, c + r * ldc + offset, static_cast<size_t>(length) * 4);
      }
    });
  }
};

// HostConv: adds digit sums into int64.
struct DigitDrain : Drain {
  const Walk& walk;
  int64_t channels, results;
  int64_t* out;
  int shift;
  DigitDrain(const Walk& w, int64_t o, int64_t r, int64_t* to, int s) : walk(w), channels(o), results(r), out(to), shift(s) {}
  void take(int64_t sample, int64_t channel, int rows, int64_t first, int64_t count, const int32_t* c,
            int64_t ldc) const override {
    stretches(walk, first, count, [&](int64_t line, int64_t inside, int64_t offset, int64_t length) {
      for (int r = 0; r < rows; ++r) {
        int64_t* to = out + ((sample * channels + channel + r) * results + line * walk.width + inside);
        const int32_t* from = c + r * ldc + offset;
        if (shift == 0) {
          for (int64_t i = 0; i < length; ++i) to[i] = from[i];
        } else {
          for (int64_t i = 0; i < length; ++i) to[i] += int64_t{from[i]} * (int64_t{1} << shift);
        }
      }
    });
  }
};

// Weights as rows: (O, depth) with padding, in bytes or 16-bit words.
struct Filters {
  Form form = Form::k16;
  int64_t depth = 0, padded = 0;
  AlignedBytes rows;
  std::vector<int32_t> moved;  // k8Signed: 128 times the sum of each row
  int64_t norm = 0;            // largest sum of a row's absolute weights, for 16-bit rows
};

void arrange(const Tensor& weights, Form form, Filters* out) {
  const int64_t count = weights.dims[0];
  out->form = form;
  out->depth = count == 0 ? 0 : weights.size() / count;
  const int64_t unit = form == Form::k16 ? 2 : form == Form::kBytes ? 64 : 4, width = form == Form::k16 ? 2 : 1;
  out->padded = (std::max<int64_t>(out->depth, 1) + unit - 1) / unit * unit;
  out->rows.resize(static_cast<size_t>((count + 16) * out->padded * width));  // matrix registers read whole blocks
  out->moved.assign(static_cast<size_t>(count), 0);
  out->norm = 0;
  for (int64_t o = 0; o < count; ++o) {
    const char* from = static_cast<const char*>(weights.data) + o * out->depth * static_cast<int64_t>(width_of(weights.type));
    unsigned char* to = out->rows.begin + o * out->padded * width;
    if (form == Form::k16) {
      const int16_t* row = reinterpret_cast<int16_t*>(to);
      to16(from, weights.type, out->depth, reinterpret_cast<int16_t*>(to));
      int64_t norm = 0;
      for (int64_t k = 0; k < out->depth; ++k) norm += std::abs(int{row[k]});
      out->norm = std::max(out->norm, norm);
    } else {
      std::memcpy(to, from, static_cast<size_t>(out->depth));
      if (form == Form::k8Signed) {
        for (int64_t k = 0; k < out->depth; ++k) out->moved[o] += 128 * static_cast<const int8_t*>(weights.data)[o * out->depth + k];
      }
    }
  }
}

// Padded inputs, shape (N * C, padded); with the form kBytes perhaps as two planes whose sum they are.
template <class T>
struct Planes {
  const T* data[2];
  int count = 1;
  bool is_unsigned = true;
};

// One convolution; T is int16_t or uint8_t.
template <class T>
void convolve(const Call& call, const Walk& walk, const Planes<T>& planes, int64_t samples,
              int64_t channels, int64_t groups, int64_t outputs, const Filters& weights, const Drain& drain) {
  const std::vector<int64_t>&taps = walk.taps, &lines = walk.starts;
  const int64_t plane = walk.plane, inputs = channels / groups, per_group = outputs / groups;
  const int64_t panels = (walk.count + kPanel - 1) / kPanel, depth = weights.padded;
  const int stride = walk.step;
  const double cost = static_cast<double>(per_group * depth * kPanel) / 60.0 + static_cast<double>(depth * kPanel) / 4.0;
  call.parallel(samples * groups * panels, cost, [&](int64_t begin, int64_t end) {
    thread_local Scratch panel_scratch, sums_scratch, copy_scratch;
    T* panel = panel_scratch.as<T>(static_cast<size_t>(depth * kPanel * planes.count));
    int32_t* sums = sums_scratch.as<int32_t>(kTileRows * kPanel);
    const MatrixGuard guard(weights.form == Form::kBytes);
    std::vector<const T*> rows(static_cast<size_t>(depth));
    for (int64_t job = begin; job < end; ++job) {
      const int64_t which = job / panels, first = job % panels * kPanel;
      const int64_t sample = which / groups, group = which % groups;
      const int64_t count = std::min<int64_t>(kPanel, walk.count - first);
      const int width = static_cast<int>((count + kGranule - 1) / kGranule * kGranule);
      for (int p = 0; p < planes.count; ++p) {
        const T* source = planes.data[p] + (sample * channels + group * inputs) * plane;
        if (walk.dense) {
          for (int64_t c = 0, k = 0; c < inputs; ++c) {
            for (int64_t tap : taps) rows[k++] = source + c * plane + tap + first;
          }
        } else {
          T* copy = copy_scratch.as<T>(static_cast<size_t>(depth * kPanel));
          for (int64_t c = 0, k = 0; c < inputs; ++c) {
            for (int64_t tap : taps) {
              T* to = copy + k * kPanel;
              rows[k++] = to;
              stretches(walk, first, count, [&](int64_t line, int64_t inside, int64_t offset, int64_t length) {
                const T* from = source + c * plane + lines[line] + tap + inside * stride;
                if (stride == 1) {
                  std::memcpy(to + offset, from, static_cast<size_t>(length) * sizeof(T));
                } else if (stride == 2) {
                  for (int64_t i = 0; i < length; ++i) to[offset + i] = from[2 * i];
                } else {
                  for (int64_t i = 0; i < length; ++i) to[offset + i] = from[stride * i];
                }
              });
              std::fill(to + count, to + width, T{0});
            }
          }
        }
        for (int64_t k = weights.depth; k < depth; ++k) rows[k] = rows[0];  // meets zero weights
        if constexpr (sizeof(T) == 1) {
          kernels().quads8(rows.data(), depth, width, panel + p * depth * kPanel);
        } else {
          kernels().pairs16(rows.data(), depth, width, panel);
        }
      }
      const unsigned char* left = weights.rows.begin + group * per_group * depth * static_cast<int64_t>(sizeof(T));
      for (int64_t o = 0; o < per_group; o += kTileRows) {
        const int some = static_cast<int>(std::min<int64_t>(kTileRows, per_group - o));
        if constexpr (sizeof(T) == 1) {
          const int8_t* ours = reinterpret_cast<const int8_t*>(left) + o * depth;
          if (weights.form == Form::kBytes) {
            BytesProduct bytes{{ours, nullptr}, nullptr, 1, false, depth, {panel, panel + depth * kPanel}, planes.count,
                               planes.is_unsigned, depth, some, width};
            kernels().product_bytes(bytes, sums, kPanel);
          } else {
            kernels().product8_signed_rows(ours, depth, panel, depth, some, width, nullptr, sums, kPanel);
          }
        } else {
          kernels().product16(reinterpret_cast<const int16_t*>(left) + o * depth, depth, panel, depth, some, width, nullptr,
                              sums, kPanel);
        }
        const int64_t channel = group * per_group + o;
        if (weights.form == Form::k8Signed) {
          for (int r = 0; r < some; ++r) {
            const int32_t back = -weights.moved[channel + r];
            kernels().add(sums + r * kPanel, &back, 0, width, sums + r * kPanel);
          }
        }
        drain.take(sample, channel, some, first, count, sums, kPanel);
      }
    }
  });
}

// One tap row each: every output channel reads one input channel.
void convolve_depthwise(const Call& call, const Walk& walk, const int16_t* planes, int64_t samples, int64_t channels,
                        int64_t outputs, const Filters& weights, int32_t* out) {
  const std::vector<int64_t>&taps = walk.taps, &lines = walk.starts;
  const int64_t plane = walk.plane, width = walk.width, results = walk.lines * width, each = outputs / channels;
  call.parallel(samples * outputs, static_cast<double>(results) * static_cast<double>(taps.size()) / 8.0, [&](int64_t begin, int64_t end) {
    std::vector<const int16_t*> at(taps.size());
    std::vector<int32_t> factor(taps.size());
    for (int64_t job = begin; job < end; ++job) {
      const int64_t sample = job / outputs, o = job % outputs;
      const int16_t* source = planes + (sample * channels + o / each) * plane;
      const int16_t* row = reinterpret_cast<const int16_t*>(weights.rows.begin) + o * weights.padded;
      for (size_t t = 0; t < taps.size(); ++t) factor[t] = row[t];
      for (size_t line = 0; line < lines.size(); ++line) {
        for (size_t t = 0; t < taps.size(); ++t) at[t] = source + lines[line] + taps[t];
        kernels().weigh(at.data(), factor.data(), static_cast<int>(taps.size()), walk.step, width,
                        out + job * results + static_cast<int64_t>(line) * width);
      }
    }
  });
}

// The definition, for weights or codes beyond 16 bits.
template <class Out, class In>
void convolve_plain(const Call& call, const Window& w, const std::vector<In>& planes, const std::vector<int64_t>& weights,
                    int64_t samples, int64_t channels, int64_t groups, int64_t outputs, Out* out) {
  const std::vector<int64_t> taps = tap_offsets(w), lines = line_offsets(w);
  const int64_t plane = product(w.padded), results = product(w.out), width = w.out.back();
  const int64_t inputs = channels / groups, per_group = outputs / groups, depth = inputs * w.taps;
  call.parallel(samples * outputs, static_cast<double>(results * depth), [&](int64_t begin, int64_t end) {
    for (int64_t job = begin; job < end; ++job) {
      const int64_t sample = job / outputs, o = job % outputs;
      const In* source = planes.data() + (sample * channels + o / per_group * inputs) * plane;
      for (int64_t at = 0; at < results; ++at) {
        uint64_t total = 0;
        const int64_t place = lines[at / width] + at % width * w.strides.back();
        for (int64_t c = 0; c < inputs; ++c) {
          for (size_t t = 0; t < taps.size(); ++t) {
            total += static_cast<uint64_t>(int64_t{source[c * plane + place + taps[t]]}) *
                     static_cast<uint64_t>(weights[o * depth + c * w.taps + static_cast<int64_t>(t)]);
          }
        }
        out[job * results + at] = static_cast<Out>(total);
      }
    }
  });
}

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

std::vector<int64_t> as_int64(const Tensor& tensor) {
  std::vector<int64_t> values(static_cast<size_t>(tensor.size()));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = tensor.type == Type::kI8    ? tensor.as<int8_t>()[i]
                : tensor.type == Type::kI16 ? tensor.as<int16_t>()[i]
                                            : tensor.as<int32_t>()[i];
  }
  return values;
}

class Convolution : public Kernel {
 public:
  Convolution(const Node& node, bool host)
      : strides_(node.integers("strides", {})), pads_(node.integers("pads", {})), dilations_(node.integers("dilations", {})),
        groups_(node.integer("group", 1)), host_(host) {
    constant_ = node.constant(1, &weights_);
  }

  void run(const Call& call) const override {
    const Tensor x = call.input(0), weights = call.input(1);
    require(x.rank() >= 3 && weights.rank() == x.rank(), "a convolution needs a batch, channels and an extent");
    require(weights.type == Type::kI8 || weights.type == Type::kI16 || weights.type == Type::kI32, "weights of this element type");
    const int64_t samples = x.dims[0], channels = x.dims[1], outputs = weights.dims[0];
    require(groups_ >= 1 && channels == weights.dims[1] * groups_ && outputs % groups_ == 0, "the groups do not fit the channels");
    const Window w = window_of(Shape(x.dims.begin() + 2, x.dims.end()), Shape(weights.dims.begin() + 2, weights.dims.end()),
                               strides_, pads_, dilations_);
    Shape dims{samples, outputs};
    dims.insert(dims.end(), w.out.begin(), w.out.end());
    void* out = call.output(dims);
    if (product(dims) == 0) return;
    if (channels == 0) {
      std::memset(out, 0, static_cast<size_t>(product(dims)) * (host_ ? 8 : 4));
      return;
    }
    const Walk walk = walk_of(w);
    const int64_t size = samples * channels * walk.plane;
    const int64_t results = product(w.out);
    const Filters* rows = nullptr;
    Filters local;
    const bool depthwise = groups_ == channels && groups_ > 1 && !host_;
    const Form form = host_ || depthwise ? Form::k16 : form_of(x, weights);
    if (!small_values(weights) || (!host_ && !small_values(x))) {
      plain(call, w, x, weights, outputs, out);
      return;
    }
    if (constant_) {
      Made& made = made_[static_cast<size_t>(form)];
      std::call_once(made.once, [&] { arrange(weights_, form, &made.rows); });
      rows = &made.rows;
    } else {
      arrange(weights, form, &local);
      rows = &local;
    }
    thread_local Scratch memory;
    if (host_) {
      // Numbers of 24 bits as two digits of 12 bits, the upper one signed; smaller ones whole, if all sums fit.
      int16_t* planes = memory.as<int16_t>(static_cast<size_t>(size) + 2 * kPanel);
      std::memset(planes + size, 0, 4 * kPanel);
      const int32_t* values = x.as<int32_t>();
      const int64_t most = std::max<int64_t>(kernels().largest(values, x.size()), -int64_t{kernels().smallest(values, x.size())});
      if (most <= 32767 && most * rows->norm <= INT32_MAX) {
        pad_all(call, w, walk, x, int16_t{0}, planes, [](auto v) { return static_cast<int16_t>(v); });
        convolve(call, walk, Planes<int16_t>{{planes, nullptr}}, samples, channels, groups_, outputs, *rows,
                 DigitDrain(walk, outputs, results, static_cast<int64_t*>(out), 0));
        return;
      }
      for (int shift : {0, 12}) {
        if (shift == 0) {
          pad_all(call, w, walk, x, int16_t{0}, planes, [](auto v) { return static_cast<int16_t>(v & 0xfff); });
        } else {
          pad_all(call, w, walk, x, int16_t{0}, planes, [](auto v) { return static_cast<int16_t>(v >> 12); });
        }
        convolve(call, walk, Planes<int16_t>{{planes, nullptr}}, samples, channels, groups_, outputs, *rows,
                 DigitDrain(walk, outputs, results, static_cast<int64_t*>(out), shift));
      }
      return;
    }
    int32_t* to = static_cast<int32_t*>(out);
    if (form == Form::k16) {
      int16_t* planes = memory.as<int16_t>(static_cast<size_t>(size) + 2 * kPanel);
      std::memset(planes + size, 0, 4 * kPanel);
      pad_all(call, w, walk, x, int16_t{0}, planes, [](auto v) { return static_cast<int16_t>(v); });
      if (depthwise) {
        convolve_depthwise(call, walk, planes, samples, channels, outputs, *rows, to);
      } else {
        convolve(call, walk, Planes<int16_t>{{planes, nullptr}}, samples, channels, groups_, outputs, *rows,
                 Int32Drain(walk, outputs, results, to));
      }
      return;
    }
    // Loops read a panel's width at the last number, so each plane is followed by room.
    const size_t room = static_cast<size_t>(size) + 2 * kPanel;
    const bool split = form == Form::kBytes && x.type == Type::kI16;
    uint8_t* planes = memory.as<uint8_t>(room * (split ? 2 : 1));
    std::memset(planes + size, 0, 2 * kPanel);
    Planes<uint8_t> bytes{{planes, planes + room}, split ? 2 : 1, !split && x.type != Type::kI8};
    if (split) {
      std::memset(planes + room + size, 0, 2 * kPanel);
      pad_all(call, w, walk, x, uint8_t{0}, planes, [](auto v) { return static_cast<uint8_t>(std::clamp<int>(v, -128, 127)); });
      pad_all(call, w, walk, x, uint8_t{0}, planes + room, [](auto v) { return static_cast<uint8_t>(v - std::clamp<int>(v, -128, 127)); });
    } else if (form == Form::k8Signed) {
      pad_all(call, w, walk, x, uint8_t{128}, planes, [](auto v) { return static_cast<uint8_t>(static_cast<uint8_t>(v) ^ 0x80); });
    } else {
      pad_all(call, w, walk, x, uint8_t{0}, planes, [](auto v) { return static_cast<uint8_t>(v); });
    }
    convolve(call, walk, bytes, samples, channels, groups_, outputs, *rows, Int32Drain(walk, outputs, results, to));
  }

 private:
  void plain(const Call& call, const Window& w, const Tensor& x, const Tensor& weights, int64_t outputs, void* out) const {
    const Walk walk = walk_of(w, true);
    std::vector<int32_t> planes(static_cast<size_t>(x.dims[0] * x.dims[1] * walk.plane));
    pad_all(call, w, walk, x, int32_t{0}, planes.data(), [](auto v) { return int32_t{v}; });
    const std::vector<int64_t> values = as_int64(weights);
    if (host_) {
      convolve_plain(call, w, planes, values, x.dims[0], x.dims[1], groups_, outputs, static_cast<int64_t*>(out));
    } else {
      convolve_plain(call, w, planes, values, x.dims[0], x.dims[1], groups_, outputs, static_cast<int32_t*>(out));
    }
  }

  Shape strides_, pads_, dilations_;
  int64_t groups_;
  bool host_, constant_ = false;
  Tensor weights_;
  struct Made {
    std::once_flag once;
    Filters rows;
  };
  mutable Made made_[4];
};

struct SpikeConv : Convolution {
  explicit SpikeConv(const Node& node) : Convolution(node, false) {}
};
struct HostConv : Convolution {
  explicit HostConv(const Node& node) : Convolution(node, true) {}
};

}  // namespace

void define_convolutions(std::vector<Definition>* list) {
  constexpr Type any = Type::kUndefined, i = Type::kI32;
  list->push_back({"SpikeConv", {any, any}, i, make<SpikeConv>});
  list->push_back({"HostConv", {i, any}, Type::kI64, make<HostConv>});
}

}  // namespace snnc
