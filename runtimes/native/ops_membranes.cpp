// Elementwise operators on membranes and codes, and those between floats and integers.

#include <cmath>
#include <cstring>

#include "broadcast.h"
#include "kernels.h"
#include "op.h"

namespace snnc {
namespace {

const int32_t* i32(const Tensor& tensor) {
  require(tensor.type == Type::kI32, "a membrane is not int32");
  return tensor.as<int32_t>();
}

template <bool kTimes>
class Join : public Kernel {
 public:
  explicit Join(const Node&) {}
  void run(const Call& call) const override {
    const Tensor a = call.input(0), b = call.input(1);
    const int32_t *x = i32(a), *y = i32(b);
    const Broadcast plan = broadcast(a.dims, b.dims);
    int32_t* out = call.output_as<int32_t>(plan.out);
    const auto loop = kTimes ? kernels().multiply : kernels().add;
    over(call, plan, 0.3, [&](int64_t to, int64_t at, int64_t bt, int64_t count) {
      // Both operations commute, so the operand that stays is the second one.
      if (plan.a_step == 1) {
        loop(x + at, y + bt, plan.b_step, count, out + to);
      } else {
        loop(y + bt, x + at, 0, count, out + to);
      }
    });
  }
};

class MembraneRound : public Kernel {
 public:
  explicit MembraneRound(const Node& node) : shift_(node.number("shift", 0, 62)) {}
  void run(const Call& call) const override {
    const Tensor v = call.input(0);
    int32_t* out = call.output_as<int32_t>(v.dims);
    call.parallel(v.size(), 0.3, [&](int64_t begin, int64_t end) {
      if (v.type == Type::kI32) {
        kernels().round32(v.as<int32_t>() + begin, shift_, end - begin, out + begin);
      } else {
        require(v.type == Type::kI64, "a membrane is neither int32 nor int64");
        kernels().round64(v.as<int64_t>() + begin, shift_, end - begin, out + begin);
      }
    });
  }

 private:
  int shift_;
};

class FixedPointEncode : public Kernel {
 public:
  explicit FixedPointEncode(const Node& node)
      : fraction_(in_range("fraction_bits", node.integer("fraction_bits", 12), 0, 62)),
        bits_(in_range("bits", node.integer("bits", 24), 2, 25)) {}
  void run(const Call& call) const override {
    const Tensor x = call.input(0);
    require(x.type == Type::kFloat, "the input is not float32");
    int32_t* out = call.output_as<int32_t>(x.dims);
    const float scale = static_cast<float>(int64_t{1} << fraction_);
    const double limit = static_cast<double>((1 << (bits_ - 1)) - 1);
    constexpr double kWhole = 6755399441055744.0;  // 1.5 * 2^52: what is added to it is rounded, to even by default
    const float* from = x.as<float>();
    call.parallel(x.size(), 0.5, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        double near = static_cast<double>(from[i] * scale);
        near = near < -limit ? -limit : near;
        near = (near > limit ? limit : near) + kWhole - kWhole;
        out[i] = near == near ? static_cast<int32_t>(near) : INT32_MIN;  // no number: what x86 makes of it
      }
    });
  }

 private:
  int fraction_, bits_;
};

// The values of a tensor that broadcasts to `dims`, spread over it: for the readout, whose tensors are small.
std::vector<float> spread(const Tensor& tensor, const Shape& dims) {
  require(tensor.type == Type::kFloat, "a scale is not float32");
  const Broadcast plan = broadcast(dims, tensor.dims);
  require(plan.out == dims, "a scale does not broadcast to the membrane");
  std::vector<float> values(static_cast<size_t>(product(dims)));
  for (int64_t line = 0; line < plan.lines; ++line) {
    for (int64_t i = 0; i < plan.length; ++i) {
      values[line * plan.length + i] = tensor.as<float>()[plan.b_start[line] + i * plan.b_step];
    }
  }
  return values;
}

class Readout : public Kernel {
 public:
  explicit Readout(const Node&) {}
  void run(const Call& call) const override {
    const Tensor v = call.input(0), scale = call.input(1), bias = call.input(2);
    const int32_t* from = i32(v);
    const Shape dims = broadcast(broadcast(v.dims, scale.dims).out, bias.dims).out;
    require(dims == v.dims, "a scale or bias has more elements than the membrane");
    const std::vector<float> factor = spread(scale, dims), shift = spread(bias, dims);
    float* out = call.output_as<float>(dims);
    for (int64_t i = 0, count = v.size(); i < count; ++i) {
      const float product = static_cast<float>(from[i]) * factor[i];  // rounded, then the sum: never fused
      out[i] = product + shift[i];
    }
  }
};

// Calls body with a pointer to the tensor's elements, whatever integer type they have.
template <class F>
void with_codes(const Tensor& tensor, F body) {
  switch (tensor.type) {
    case Type::kU8:
    case Type::kBool:
      return body(tensor.as<uint8_t>());
    case Type::kI8:
      return body(tensor.as<int8_t>());
    case Type::kI16:
      return body(tensor.as<int16_t>());
    case Type::kI32:
      return body(tensor.as<int32_t>());
    default:
      refuse("codes of this element type");
  }
}

class Charge : public Kernel {
 public:
  explicit Charge(const Node&) {}
  void run(const Call& call) const override {
    const Tensor x = call.input(0);
    int32_t* out = call.output_as<int32_t>(x.dims);
    with_codes(x, [&](const auto* from) {
      call.parallel(x.size(), 0.2, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) out[i] = from[i];
      });
    });
  }
};

class SpikeMulHeld : public Kernel {
 public:
  explicit SpikeMulHeld(const Node&) {}
  void run(const Call& call) const override {
    const Tensor a = call.input(0), b = call.input(1);
    const Broadcast plan = broadcast(a.dims, b.dims);
    int32_t* out = call.output_as<int32_t>(plan.out);
    with_codes(a, [&](const auto* x) {
      with_codes(b, [&](const auto* y) {
        over(call, plan, 0.5, [&](int64_t to, int64_t at, int64_t bt, int64_t count) {
          for (int64_t i = 0; i < count; ++i) {
            const uint32_t left = static_cast<uint32_t>(int32_t{x[at + i * plan.a_step]});
            out[to + i] = static_cast<int32_t>(left * static_cast<uint32_t>(int32_t{y[bt + i * plan.b_step]}));
          }
        });
      });
    });
  }
};

class SpikeGate : public Kernel {
 public:
  explicit SpikeGate(const Node& node) : type_(node.code_type("code_type")) {}
  void run(const Call& call) const override {
    const Tensor x = call.input(0), gate = call.input(1);
    require(gate.type == Type::kBool, "a gate is not bool");
    const Broadcast plan = broadcast(x.dims, gate.dims);
    void* out = call.output(plan.out, type_);
    const size_t width = width_of(type_);
    const uint8_t* open = gate.as<uint8_t>();  // a byte of another value than 0 and 1 is true
    with_codes(x, [&](const auto* from) {
      auto fill = [&](auto* to) {
        using T = std::remove_pointer_t<decltype(to)>;
        over(call, plan, 0.5, [&](int64_t start, int64_t at, int64_t bt, int64_t count) {
          for (int64_t i = 0; i < count; ++i) {
            to[start + i] = open[bt + i * plan.b_step] ? static_cast<T>(from[at + i * plan.a_step]) : T{0};
          }
        });
      };
      if (width == 1) {
        fill(static_cast<uint8_t*>(out));
      } else if (width == 2) {
        fill(static_cast<int16_t*>(out));
      } else {
        fill(static_cast<int32_t*>(out));
      }
    });
  }

 private:
  Type type_;
};

class CodeSlice : public Kernel {
 public:
  explicit CodeSlice(const Node& node) : shift_(node.number("shift", 0, 31)), bits_(node.number("bits", 0, 16)) {}
  void run(const Call& call) const override {
    const Tensor x = call.input(0);
    void* out = call.output(x.dims, x.type);
    with_codes(x, [&](const auto* from) {
      using T = std::remove_const_t<std::remove_pointer_t<decltype(from)>>;
      T* to = static_cast<T*>(out);
      const int64_t mask = (int64_t{1} << bits_) - 1;
      for (int64_t i = 0, count = x.size(); i < count; ++i) {
        const int64_t code = from[i], digits = ((code < 0 ? -code : code) >> shift_) & mask;
        to[i] = static_cast<T>(code < 0 ? -digits : digits);
      }
    });
  }

 private:
  int shift_, bits_;
};

// A normalised value that is an output: floor((v << F) / max(gain, 1)).
class HostQuotient : public Kernel {
 public:
  explicit HostQuotient(const Node& node) : fraction_(node.number("fraction_bits", 0, 62)) {}
  void run(const Call& call) const override {
    const Tensor v = call.input(0), gain = call.input(1);
    const Broadcast plan = broadcast(v.dims, gain.dims);
    require(plan.out == v.dims, "the gain does not broadcast to the potential");
    int32_t* out = call.output_as<int32_t>(v.dims);
    auto at = [](const Tensor& tensor, int64_t i) {
      return tensor.type == Type::kI64 ? tensor.as<int64_t>()[i] : int64_t{i32(tensor)[i]};
    };
    for (int64_t line = 0; line < plan.lines; ++line) {
      for (int64_t i = 0; i < plan.length; ++i) {
        const int64_t x = static_cast<int64_t>(static_cast<uint64_t>(at(v, plan.a_start[line] + i * plan.a_step)) << fraction_);
        const int64_t divisor = std::max<int64_t>(1, at(gain, plan.b_start[line] + i * plan.b_step));
        out[line * plan.length + i] = static_cast<int32_t>(x / divisor - (x % divisor < 0 ? 1 : 0));
      }
    }
  }

 private:
  int fraction_;
};

}  // namespace

void define_membranes(std::vector<Definition>* list) {
  constexpr Type any = Type::kUndefined, i = Type::kI32, f = Type::kFloat;
  list->push_back({"MembraneAdd", {i, i}, i, make<Join<false>>});
  list->push_back({"MembraneScale", {i, i}, i, make<Join<true>>});
  list->push_back({"MembraneRound", {any}, i, make<MembraneRound>});
  list->push_back({"FixedPointEncode", {f}, i, make<FixedPointEncode>});
  list->push_back({"Readout", {i, f, f}, f, make<Readout>});
  list->push_back({"Charge", {any}, i, make<Charge>});
  list->push_back({"SpikeMulHeld", {any, any}, i, make<SpikeMulHeld>});
  list->push_back({"SpikeGate", {any, Type::kBool}, any, make<SpikeGate>});
  list->push_back({"CodeSlice", {any}, any, make<CodeSlice>});
  list->push_back({"HostQuotient", {any, any}, i, make<HostQuotient>});
}

}  // namespace snnc
