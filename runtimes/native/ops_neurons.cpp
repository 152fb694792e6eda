// ExpGIF, ExpGIFGain, Encode.

#include <algorithm>
#include <cmath>
#include <memory>

#include "broadcast.h"
#include "neuron.h"

namespace snnc {
namespace {

constexpr int64_t kChunk = 1024;

// What the three neurons share: a table that is made once if its thresholds are constant.
class Firing {
 public:
  Firing(const Node& node, size_t thresholds, bool integers)
      : type_(node.code_type("code_type")), codes_(node.codes("codes", type_)), depth_(node.integer("depth")) {
    Tensor tensor;
    if (integers && node.constant(thresholds, &tensor)) made_ = std::make_unique<FireTable>(tensor, codes_, depth_);
  }
  int width() const { return static_cast<int>(width_of(type_)); }
  Type type() const { return type_; }
  int64_t depth() const { return depth_; }
  const std::vector<int64_t>& codes() const { return codes_; }
  // The table; `local` keeps it if it must be made for this call.
  const FireTable& table(const Tensor& thresholds, std::unique_ptr<FireTable>* local) const {
    if (made_) return *made_;
    *local = std::make_unique<FireTable>(thresholds, codes_, depth_);
    return **local;
  }

 private:
  Type type_;
  std::vector<int64_t> codes_;
  int64_t depth_;
  std::unique_ptr<FireTable> made_;
};

constexpr int64_t kStripe = 64;  // positions whose thresholds stay in the first cache while many lines pass

// Calls body(line, offset, count) for pieces of the potentials, with the parameters of each piece.
void over_lines(const Call& call, const FireTable& table, const Broadcast& plan, const Tensor& rows, double cost,
                const std::function<void(const FireLine&, int64_t, int64_t)>& body) {
  if (plan.lines == 0) return;
  FireTable::Positions positions;
  table.place(rows.as<int32_t>(), rows.size(), &positions);
  if (plan.lines == 1) {
    call.parallel(plan.length, cost, [&](int64_t begin, int64_t end) {
      body(table.line(positions, plan.b_step == 0 ? 0 : begin, plan.b_step == 0), begin, end - begin);
    });
    return;
  }
  call.parallel(plan.lines, cost * static_cast<double>(plan.length), [&](int64_t begin, int64_t end) {
    while (begin < end) {
      // Lines with the same thresholds go through together, some positions at a time.
      const int64_t start = plan.b_start[begin];
      int64_t upto = begin + 1;
      while (upto < end && plan.b_start[upto] == start) ++upto;
      const int64_t stripe = plan.b_step == 0 || upto - begin < 4 ? plan.length : kStripe;
      for (int64_t at = 0; at < plan.length; at += stripe) {
        const FireLine line = table.line(positions, start + at * plan.b_step, plan.b_step == 0);
        const int64_t count = std::min(stripe, plan.length - at);
        for (int64_t which = begin; which < upto; ++which) body(line, which * plan.length + at, count);
      }
      begin = upto;
    }
  });
}

class ExpGif : public Kernel {
 public:
  explicit ExpGif(const Node& node) : firing_(node, 1, true) {}
  void run(const Call& call) const override {
    const Tensor v = call.input(0), thresholds = call.input(1), rows = call.input(2);
    require(v.type == Type::kI32, "the potential is not int32");
    std::unique_ptr<FireTable> local;
    const FireTable& table = firing_.table(thresholds, &local);
    const Broadcast plan = plan_rows(v.dims, rows, table.rows());
    char* out = static_cast<char*>(call.output(v.dims, firing_.type()));
    const int width = firing_.width();
    over_lines(call, table, plan, rows, 1.0, [&](const FireLine& line, int64_t at, int64_t count) {
      fire_line(line, v.as<int32_t>() + at, count, width, out + at * width);
    });
  }

 private:
  Firing firing_;
};

FireLine moved(FireLine line, int64_t by) {
  if (line.shared) return line;
  auto move = [by](auto*& pointer) {
    if (pointer != nullptr) pointer += by;
  };
  move(line.scale);
  move(line.offset);
  move(line.scale32);
  move(line.offset32);
  move(line.first_cell);
  move(line.first_limit);
  move(line.columns);
  return line;
}

class ExpGifGain : public Kernel {
 public:
  explicit ExpGifGain(const Node& node) : firing_(node, 2, true), fraction_(node.number("fraction_bits", 0, 62)) {}
  void run(const Call& call) const override {
    const Tensor v = call.input(0), gain = call.input(1), thresholds = call.input(2), rows = call.input(3);
    std::unique_ptr<FireTable> local;
    const FireTable& table = firing_.table(thresholds, &local);
    const Broadcast plan = plan_rows(v.dims, rows, table.rows());
    const Broadcast gains = broadcast(v.dims, gain.dims);
    require(gains.out == v.dims, "the gain does not broadcast to the potential");
    char* out = static_cast<char*>(call.output(v.dims, firing_.type()));
    const int width = firing_.width();
    over_lines(call, table, plan, rows, 2.0, [&](const FireLine& line, int64_t at, int64_t count) {
      int32_t quotient[kChunk];
      const int64_t origin = at;
      while (count > 0) {
        // A piece lies in one line of the gain, in which the gain stays or moves.
        const int64_t which = at / gains.length, inside = at % gains.length;
        const int64_t piece = std::min({count, kChunk, gains.length - inside});
        const int64_t first = gains.b_start[which] + inside * gains.b_step;
        divide(v, at, gain, first, gains.b_step, piece, quotient);
        fire_line(moved(line, at - origin), quotient, piece, width, out + at * width);
        at += piece;
        count -= piece;
      }
    });
  }

 private:
  static int64_t number(const Tensor& tensor, int64_t at) {
    if (tensor.type == Type::kI64) return tensor.as<int64_t>()[at];
    require(tensor.type == Type::kI32, "a potential or gain is neither int32 nor int64");
    return tensor.as<int32_t>()[at];
  }

  void divide(const Tensor& v, int64_t at, const Tensor& gain, int64_t first, int step, int64_t count, int32_t* out) const {
    const int64_t one = std::max<int64_t>(1, number(gain, first));
    bool small = step == 0 && fraction_ <= 50 && one < (int64_t{1} << 52);
    if (small && v.type == Type::kI64) {
      const int64_t most = int64_t{1} << (52 - fraction_ - 1);
      const int64_t* values = v.as<int64_t>() + at;
      int64_t wide = 0;
      for (int64_t i = 0; i < count; ++i) wide |= values[i] < -most || values[i] > most;
      small = wide == 0;
    } else {
      small = small && fraction_ <= 20;
    }
    if (small) {
      const double factor = static_cast<double>(int64_t{1} << fraction_);
      if (v.type == Type::kI64) {
        kernels().quotient64(v.as<int64_t>() + at, factor, static_cast<double>(one), count, out);
      } else {
        require(v.type == Type::kI32, "a potential is neither int32 nor int64");
        kernels().quotient32(v.as<int32_t>() + at, factor, static_cast<double>(one), count, out);
      }
      return;
    }
    for (int64_t i = 0; i < count; ++i) {
      const int64_t x = static_cast<int64_t>(static_cast<uint64_t>(number(v, at + i)) << fraction_);
      const int64_t divisor = std::max<int64_t>(1, number(gain, first + i * step));
      out[i] = static_cast<int32_t>(x / divisor - (x % divisor < 0 ? 1 : 0));
    }
  }

  Firing firing_;
  int fraction_;
};

class Encode : public Kernel {
 public:
  explicit Encode(const Node& node) : firing_(node, 1, false) {}
  void run(const Call& call) const override {
    const Tensor v = call.input(0), thresholds = call.input(1), rows = call.input(2);
    require(v.type == Type::kFloat && thresholds.type == Type::kFloat && thresholds.rank() == 2, "the encoder takes float32");
    const int64_t width = thresholds.dims[1], used = static_cast<int64_t>(firing_.codes().size()) - 1;
    require(used >= 0 && used <= width && firing_.depth() >= 0 && firing_.depth() <= 30 && width == (int64_t{1} << firing_.depth()) - 1,
            "the table of the encoder has the wrong size");
    const Broadcast plan = plan_rows(v.dims, rows, thresholds.dims[0]);
    char* out = static_cast<char*>(call.output(v.dims, firing_.type()));
    over(call, plan, 5.0, [&](int64_t to, int64_t at, int64_t bt, int64_t count) {
      for (int64_t i = 0; i < count; ++i) {
        const float* limits = thresholds.as<float>() + rows.as<int32_t>()[bt + i * plan.b_step] * width;
        const float x = v.as<float>()[at + i];  // what is no number reaches nothing
        const int64_t k = std::partition_point(limits, limits + used, [x](float limit) { return x >= limit; }) - limits;
        const int64_t code = firing_.codes()[k];
        if (firing_.width() == 1) {
          reinterpret_cast<uint8_t*>(out)[to + i] = static_cast<uint8_t>(code);
        } else if (firing_.width() == 2) {
          reinterpret_cast<int16_t*>(out)[to + i] = static_cast<int16_t>(code);
        } else {
          reinterpret_cast<int32_t*>(out)[to + i] = static_cast<int32_t>(code);
        }
      }
    });
  }

 private:
  Firing firing_;
};

}  // namespace

void define_neurons(std::vector<Definition>* list) {
  constexpr Type any = Type::kUndefined, i = Type::kI32, f = Type::kFloat;
  list->push_back({"ExpGIF", {i, i, i}, any, make<ExpGif>});
  list->push_back({"ExpGIFGain", {any, any, i, i}, any, make<ExpGifGain>});
  list->push_back({"Encode", {f, f, i}, any, make<Encode>});
}

}  // namespace snnc
