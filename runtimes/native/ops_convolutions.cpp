// SpikeConv, HostConv, and convolutions with what follows them.

#include <algorithm>
#include <cstring>
#include <mutex>

#include "convolve.h"
#include "margins.h"
#include "neuron.h"
#include "op.h"

namespace snnc {
namespace {

// Neurons of the channels: a table, and where each channel's part of it is.
struct Firing {
  Type type = Type::kUndefined;
  std::unique_ptr<FireTable> table;
  FireTable::Positions positions;

  Firing(const Node& node, size_t input, int64_t channels, const char* codes, const char* code_type, const char* depth)
      : type(node.code_type(code_type)) {
    Tensor thresholds, rows;
    require(node.constant(input, &thresholds) && node.constant(input + 1, &rows), "the thresholds are not constant");
    table = std::make_unique<FireTable>(thresholds, node.codes(codes, type), node.integer(depth));
    require(rows.type == Type::kI32 && rows.size() == channels, "one row number is needed for each channel");
    const Shape flat{channels};
    plan_rows(flat, Tensor{rows.type, flat, rows.data}, table->rows());
    table->place(rows.as<int32_t>(), channels, &positions);
  }
};

// Writes the sums, or first makes potentials and codes of them.
struct Finish : Drain {
  const Walk* walk = nullptr;
  int64_t channels, results;
  int32_t* sums = nullptr;           // (N, O, results), perhaps
  const int32_t* numbers = nullptr;  // null: the sums are the potentials; else FinishLines' five numbers for each channel
  int shift = -1, wide_shift = -1;   // the second one makes 64-bit sums ones of 32 bits
  const int32_t* other = nullptr;
  int64_t* wide = nullptr;
  const Firing* neurons[2] = {nullptr, nullptr};
  char* codes[2] = {nullptr, nullptr};
  Finish(int64_t o, int64_t r) : channels(o), results(r) {}

  void take(int64_t sample, int64_t channel, int rows, int64_t first, int64_t count, int32_t* c, int64_t ldc) const override {
    int64_t place = 0;
    const int64_t kept = compact(*walk, first, count, rows, c, ldc, &place);
    if (kept == 0) return;
    const int64_t start = (sample * channels + channel) * results + place;
    if (numbers != nullptr) {
      const int32_t* mine = numbers + channel;
      const FinishLines job{mine, mine + channels, mine + 2 * channels, mine + 3 * channels, mine + 4 * channels, shift,
                            other == nullptr ? nullptr : other + start, results};
      kernels().finish(job, c, ldc, rows, kept);
    }
    if (sums != nullptr) {
      for (int r = 0; r < rows; ++r) std::memcpy(sums + start + r * results, c + r * ldc, static_cast<size_t>(kept) * 4);
    }
    for (int n = 0; n < 2 && neurons[n] != nullptr; ++n) {
      FireLine line = neurons[n]->table->line(neurons[n]->positions, channel, true);
      line.by_row = true;
      const int width = static_cast<int>(width_of(neurons[n]->type));
      fire_lines(line, c, ldc, rows, kept, width, codes[n] + start * width, results);
    }
  }

  void take_wide(int64_t sample, int64_t channel, int rows, int64_t first, int64_t count, int64_t* c, int64_t ldc) const override {
    if (wide == nullptr) {
      thread_local Scratch memory;
      int32_t* narrow = memory.as<int32_t>(static_cast<size_t>(rows * ldc));
      for (int r = 0; r < rows; ++r) kernels().round64(c + r * ldc, wide_shift, count, narrow + r * ldc);
      take(sample, channel, rows, first, count, narrow, ldc);
      return;
    }
    stretches(*walk, first, count, [&](int64_t line, int64_t inside, int64_t offset, int64_t length) {
      for (int r = 0; r < rows; ++r) {
        int64_t* to = wide + ((sample * channels + channel + r) * results + line * walk->width + inside);
        std::memcpy(to, c + r * ldc + offset, static_cast<size_t>(length) * 8);
      }
    });
  }
};

// The definition, for weights or codes beyond 16 bits.
template <class Out>
void convolve_plain(const Call& call, const Window& w, const std::vector<int32_t>& planes, const std::vector<int64_t>& weights,
                    int64_t samples, int64_t channels, int64_t groups, int64_t outputs, const Drain& drain) {
  const std::vector<int64_t> taps = tap_offsets(w), lines = line_offsets(w);
  const int64_t plane = product(w.padded), results = product(w.out), width = w.out.back();
  const int64_t inputs = channels / groups, per_group = outputs / groups, depth = inputs * w.taps;
  call.parallel(samples * outputs, static_cast<double>(results * depth), [&](int64_t begin, int64_t end) {
    std::vector<Out> out(static_cast<size_t>(results));
    for (int64_t job = begin; job < end; ++job) {
      const int64_t sample = job / outputs, o = job % outputs;
      const int32_t* source = planes.data() + (sample * channels + o / per_group * inputs) * plane;
      for (int64_t at = 0; at < results; ++at) {
        uint64_t total = 0;
        const int64_t place = lines[at / width] + at % width * w.strides.back();
        for (int64_t c = 0; c < inputs; ++c) {
          for (size_t t = 0; t < taps.size(); ++t) {
            total += static_cast<uint64_t>(int64_t{source[c * plane + place + taps[t]]}) *
                     static_cast<uint64_t>(weights[o * depth + c * w.taps + static_cast<int64_t>(t)]);
          }
        }
        out[at] = static_cast<Out>(total);
      }
      if constexpr (sizeof(Out) == 8) {
        drain.take_wide(sample, o, 1, 0, results, out.data(), results);
      } else {
        drain.take(sample, o, 1, 0, results, out.data(), results);
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

int64_t largest_size(const Tensor& x) {
  if (x.size() == 0) return 0;  // all that the windows see is padding
  const int32_t* values = x.as<int32_t>();
  return std::max<int64_t>(kernels().largest(values, x.size()), -int64_t{kernels().smallest(values, x.size())});
}

class Convolution : public Kernel {
 public:
  Convolution(const Node& node, bool host)
      : strides_(node.integers("strides", {})), pads_(node.integers("pads", {})), dilations_(node.integers("dilations", {})),
        groups_(node.integer("group", 1)), host_(host) {
    constant_ = node.constant(1, &weights_);
  }

 protected:
  struct Job {
    Tensor x, weights;
    Window w;
    int64_t samples, channels, outputs, results;
    Shape dims;
  };

  Job plan(const Call& call) const {
    Job job;
    job.x = call.input(0);
    job.weights = call.input(1);
    const Tensor &x = job.x, &weights = job.weights;
    require(x.rank() >= 3 && weights.rank() == x.rank(), "a convolution needs a batch, channels and an extent");
    require(weights.type == Type::kI8 || weights.type == Type::kI16 || weights.type == Type::kI32, "weights of this element type");
    require(!host_ || x.type == Type::kI32, "the input of a host convolution is not int32");
    job.samples = x.dims[0], job.channels = x.dims[1], job.outputs = weights.dims[0];
    require(groups_ >= 1 && job.channels % groups_ == 0 && weights.dims[1] == job.channels / groups_ && job.outputs % groups_ == 0, "the groups do not fit the channels");
    job.w = window_of(Shape(x.dims.begin() + 2, x.dims.end()), Shape(weights.dims.begin() + 2, weights.dims.end()), strides_, pads_,
                      dilations_);
    job.results = product(job.w.out);
    job.dims = {job.samples, job.outputs};
    job.dims.insert(job.dims.end(), job.w.out.begin(), job.w.out.end());
    return job;
  }

  // Not for results without elements.
  void compute(const Call& call, const Job& job, Finish* finish) const {
    const Tensor &x = job.x, &weights = job.weights;
    const bool depthwise = groups_ == job.channels && groups_ > 1 && !host_;
    if (job.channels == 0 || !small_values(weights) || (!host_ && !small_values(x))) {
      plain(call, job, finish);
      return;
    }
    const Walk walk = walk_of(job.w);
    finish->walk = &walk;
    if (host_) {
      if (!in_digits(call, job, walk, *finish)) plain(call, job, finish);
      return;
    }
    const bool bytes_pay = !depthwise && weights.type == Type::kI8;
    Form form = bytes_pay ? form_of(x, weights) : Form::k16;
    if (form == Form::k8Rests) form = Form::k16;  // here the weights are the rows
    Filters local;
    const Filters& rows = filters(weights, form, &local);
    const size_t size = static_cast<size_t>(job.samples * job.channels * walk.plane);
    // Where nothing is padded or left out, the input is the plane.
    const auto zero = [](int64_t begin) { return begin == 0; };
    const bool whole = walk.dense && walk.extent == job.w.in && walk.plane == product(job.w.in) && walk.count == job.results &&
                       std::all_of(job.w.begins.begin(), job.w.begins.end(), zero);
    thread_local Scratch memory;
    if (depthwise && width_of(x.type) == 1) {
      uint8_t* planes = memory.as<uint8_t>(size + 2 * kPanel);
      std::memset(planes + size, 0, 2 * kPanel);
      pad_bytes(call, job.w, walk, x, 0, 0, planes);
      if (x.type == Type::kI8) {
        const int8_t* numbers = reinterpret_cast<const int8_t*>(planes);
        convolve_depthwise(call, walk, numbers, job.samples, job.channels, job.outputs, rows, *finish);
      } else {
        convolve_depthwise(call, walk, planes, job.samples, job.channels, job.outputs, rows, *finish);
      }
      return;
    }
    if (form == Form::k16 && whole && !depthwise && x.type == Type::kI16) {
      Planes<int16_t> words{{x.as<int16_t>()}};
      words.end[0] = words.data[0] + size;
      convolve(call, walk, words, job.samples, job.channels, groups_, job.outputs, rows, false, *finish);
      return;
    }
    if (form == Form::k16) {
      int16_t* planes = memory.as<int16_t>(size + 2 * kPanel);
      std::memset(planes + size, 0, 4 * kPanel);
      pad_all(call, job.w, walk, x, int16_t{0}, planes, [](auto v) { return static_cast<int16_t>(v); });
      if (depthwise) {
        convolve_depthwise(call, walk, planes, job.samples, job.channels, job.outputs, rows, *finish);
      } else {
        convolve(call, walk, Planes<int16_t>{{planes}}, job.samples, job.channels, groups_, job.outputs, rows, false, *finish);
      }
      return;
    }
    // Loops read a panel's width at the last number, so each plane is followed by room.
    const size_t room = size + 2 * kPanel;
    const bool split = form == Form::kBytes && x.type == Type::kI16;
    Planes<uint8_t> bytes{{}, split ? 2 : 1, !split && x.type != Type::kI8};
    if (!split && whole && form != Form::k8Signed) {
      bytes.data[0] = x.as<uint8_t>();
      bytes.end[0] = bytes.data[0] + size;
    } else {
      uint8_t* planes = memory.as<uint8_t>(room * (split ? 2 : 1));
      std::memset(planes + size, 0, 2 * kPanel);
      bytes.data[0] = planes;
      bytes.data[1] = planes + room;
      if (split) {
        std::memset(planes + room + size, 0, 2 * kPanel);
        auto low = [](int v) { return v > 127 ? 127 : v < -128 ? -128 : v; };
        if (whole) {
          bytes.count = divide(call, x, planes, planes + room);
        } else {
          pad_all(call, job.w, walk, x, uint8_t{0}, planes, [low](auto v) { return static_cast<uint8_t>(low(v)); });
          pad_all(call, job.w, walk, x, uint8_t{0}, planes + room, [low](auto v) { return static_cast<uint8_t>(v - low(v)); });
        }
      } else if (form == Form::k8Signed) {
        pad_bytes(call, job.w, walk, x, 128, 128, planes);
      } else {
        pad_bytes(call, job.w, walk, x, 0, 0, planes);
      }
    }
    convolve(call, walk, bytes, job.samples, job.channels, groups_, job.outputs, rows, false, *finish);
  }

  bool host() const { return host_; }

 private:
  const Filters& filters(const Tensor& weights, Form form, Filters* local) const {
    if (!constant_) {
      arrange(weights, form, local);
      return *local;
    }
    Made& made = made_[static_cast<size_t>(form)];
    std::call_once(made.once, [&] { arrange(weights_, form, &made.rows); });
    return made.rows;
  }

  // 16-bit numbers as two planes of bytes; returns how many of them hold anything.
  static int divide(const Call& call, const Tensor& x, uint8_t* low, uint8_t* high) {
    constexpr int64_t kPiece = 16384;
    const int64_t size = x.size(), pieces = (size + kPiece - 1) / kPiece;
    std::vector<unsigned char> live(static_cast<size_t>(pieces * (kPiece / 64)));
    call.parallel(pieces, kPiece / 16.0, [&](int64_t begin, int64_t end) {
      const int64_t from = begin * kPiece, upto = std::min(size, end * kPiece);
      kernels().split16(x.as<int16_t>() + from, upto - from, reinterpret_cast<int8_t*>(low) + from,
                        reinterpret_cast<int8_t*>(high) + from, live.data() + from / 64);
    });
    return std::any_of(live.begin(), live.end(), [](unsigned char mark) { return mark != 0; }) ? 2 : 1;
  }

  // Wide sums: inputs in digits of 8 bits for matrix registers, otherwise of as many as the sums of 32 bits admit, the
  // upper one signed. Returns false if none do.
  bool in_digits(const Call& call, const Job& job, const Walk& walk, const Finish& finish) const {
    const int64_t most = std::max<int64_t>(1, largest_size(job.x)), size = job.samples * job.channels * walk.plane;
    int bits = 1;  // of the inputs, with a sign
    while (bits < 32 && most >> (bits - 1) != 0) ++bits;
    thread_local Scratch memory;
    Filters local;
    auto digit = [](int32_t v, int at, int width, bool last) { return last ? v >> at : (v >> at) & ((int32_t{1} << width) - 1); };
    const int64_t depth = job.channels / groups_ * job.w.taps;
    if (kernels().product_bytes != nullptr && bits <= 24 && depth <= 32000 && job.weights.type != Type::kI32) {
      const Filters& rows = filters(job.weights, Form::kBytes, &local);
      const int count = (bits + 7) / 8;
      const int64_t room = size + 2 * kPanel;
      uint8_t* memory_of_all = memory.as<uint8_t>(static_cast<size_t>(room * count));
      Planes<uint8_t> planes{{}, count, count > 1, 8};
      for (int p = 0; p < count; ++p) {
        uint8_t* to = memory_of_all + p * room;
        planes.data[p] = to;
        std::memset(to + size, 0, 2 * kPanel);
        pad_all(call, job.w, walk, job.x, uint8_t{0}, to, [&](auto v) { return static_cast<uint8_t>(digit(v, 8 * p, 8, p + 1 == count)); });
      }
      convolve(call, walk, planes, job.samples, job.channels, groups_, job.outputs, rows, true, finish);
      return true;
    }
    const Filters& rows = filters(job.weights, Form::k16, &local);
    int width = 15;  // of a digit without a sign
    while (width > 0 && rows.norm * (int64_t{1} << width) > INT32_MAX) --width;
    int count = 1, sign = 16;
    if (bits > 16 || rows.norm * most > INT32_MAX) {
      if (width == 0) return false;
      sign = std::min(width + 1, 16);
      while (bits > (count - 1) * width + sign) ++count;
      if (count > 3) return false;
    }
    const int64_t room = size + 2 * kPanel;
    int16_t* memory_of_all = memory.as<int16_t>(static_cast<size_t>(room * count));
    Planes<int16_t> planes{{}, count, false, width};
    for (int p = 0; p < count; ++p) {
      int16_t* to = memory_of_all + p * room;
      planes.data[p] = to;
      std::memset(to + size, 0, 4 * kPanel);
      pad_all(call, job.w, walk, job.x, int16_t{0}, to, [&](auto v) { return static_cast<int16_t>(digit(v, width * p, width, p + 1 == count)); });
    }
    convolve(call, walk, planes, job.samples, job.channels, groups_, job.outputs, rows, true, finish);
    return true;
  }

  void plain(const Call& call, const Job& job, Finish* finish) const {
    const Walk walk = walk_of(job.w, true);
    Walk flat;  // all results in one line
    flat.dense = true;
    flat.line = flat.width = flat.count = job.results;
    flat.lines = 1;
    finish->walk = &flat;
    std::vector<int32_t> planes(static_cast<size_t>(job.samples * job.channels * walk.plane));
    pad_all(call, job.w, walk, job.x, int32_t{0}, planes.data(), [](auto v) { return int32_t{v}; });
    const std::vector<int64_t> values = as_int64(job.weights);
    if (host_) {
      convolve_plain<int64_t>(call, job.w, planes, values, job.samples, job.channels, groups_, job.outputs, *finish);
    } else {
      convolve_plain<int32_t>(call, job.w, planes, values, job.samples, job.channels, groups_, job.outputs, *finish);
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
  mutable Made made_[kForms];
};

class SpikeConv : public Convolution {
 public:
  explicit SpikeConv(const Node& node) : Convolution(node, false) {}
  void run(const Call& call) const override {
    const Job job = plan(call);
    Finish finish(job.outputs, job.results);
    finish.sums = call.output_as<int32_t>(job.dims);
    if (product(job.dims) != 0) compute(call, job, &finish);
  }
};

class HostConv : public Convolution {
 public:
  explicit HostConv(const Node& node) : Convolution(node, true) {}
  void run(const Call& call) const override {
    const Job job = plan(call);
    Finish finish(job.outputs, job.results);
    finish.wide = call.output_as<int64_t>(job.dims);
    if (product(job.dims) != 0) compute(call, job, &finish);
  }
};

// A convolution with what follows it, up to the neurons: none, one or two of each channel. Inputs: x, weights,
// [thresholds, rows,] numbers, other[, thresholds, rows]. `rows` holds one row number for each channel; `numbers` (5, O)
// is what FinishLines names; `other` is a tensor like the result, or anything if has_other is 0. Outputs: [codes, [codes,]]
// potentials if they are stored.
class Fused : public Convolution {
 public:
  Fused(const Node& node, size_t neurons)
      : Convolution(node, node.integer("host", 0) != 0), stores_(node.integer("stores", 0) != 0 || neurons == 0),
        other_(node.integer("has_other", 0) != 0), plain_(node.integer("unchanged", 0) != 0),
        shift_(bits(node, "shift")), wide_shift_(bits(node, "wide_shift")) {
    require(!host() || wide_shift_ >= 0, "the sums of a host convolution are not rounded");
    Tensor numbers;
    require(node.constant(neurons == 0 ? 2 : 4, &numbers) && numbers.type == Type::kI32 && numbers.rank() == 2 && numbers.dims[0] == 5,
            "the numbers of a fused convolution are not constant, int32 and five for each channel");
    channels_ = numbers.dims[1];
    numbers_.assign(numbers.as<int32_t>(), numbers.as<int32_t>() + numbers.size());
    if (neurons > 0) firings_.emplace_back(node, 2, channels_, "codes", "code_type", "depth");
    if (neurons > 1) firings_.emplace_back(node, 6, channels_, "second_codes", "second_type", "second_depth");
  }

  void run(const Call& call) const override {
    const Job job = plan(call);
    require(job.outputs == channels_, "the numbers of a fused convolution do not fit its channels");
    Finish finish(job.outputs, job.results);
    for (size_t n = 0; n < firings_.size(); ++n) {
      finish.neurons[n] = &firings_[n];
      finish.codes[n] = static_cast<char*>(call.output(job.dims, firings_[n].type, n));
    }
    if (stores_) finish.sums = call.output_as<int32_t>(job.dims, firings_.size());
    if (other_) {
      const Tensor other = call.input(firings_.empty() ? 3 : 5);
      require(other.type == Type::kI32 && other.dims == job.dims, "what is added to a convolution has another shape");
      finish.other = other.as<int32_t>();
    }
    if (!plain_) finish.numbers = numbers_.data();
    finish.shift = shift_;
    finish.wide_shift = wide_shift_;
    if (product(job.dims) != 0) compute(call, job, &finish);
  }

 private:
  // How far to round; -1, or no attribute: not at all.
  static int bits(const Node& node, const char* name) {
    return in_range(name, node.integer(name, -1), -1, 62);
  }

  bool stores_, other_, plain_;
  int shift_, wide_shift_;
  int64_t channels_ = 0;
  std::vector<int32_t> numbers_;
  std::vector<Firing> firings_;
};

struct FinishedConv : Fused {
  explicit FinishedConv(const Node& node) : Fused(node, 0) {}
};
struct FiredConv : Fused {
  explicit FiredConv(const Node& node) : Fused(node, 1) {}
};
struct TwiceFiredConv : Fused {
  explicit TwiceFiredConv(const Node& node) : Fused(node, 2) {}
};

}  // namespace

void define_convolutions(std::vector<Definition>* list) {
  constexpr Type any = Type::kUndefined, i = Type::kI32;
  list->push_back({"SpikeConv", {any, any}, i, make<SpikeConv>});
  list->push_back({"HostConv", {i, any}, Type::kI64, make<HostConv>});
  list->push_back({"NativeConvFire", {any, any, i, i, i, i}, any, make<FiredConv>});
  list->push_back({"NativeConvFireTwice", {any, any, i, i, i, i, i, i}, any, make<TwiceFiredConv>});
  list->push_back({"NativeConvFinish", {any, any, i, i}, i, make<FinishedConv>});
}

}  // namespace snnc
