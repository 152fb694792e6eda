// NativeNormFire: a scaling, roundings, NormPotential, NormGain and ExpGIFGain in one pass over each line.

#include <algorithm>
#include <cmath>

#include "kernels.h"
#include "neuron.h"
#include "op.h"
#include "product.h"

namespace snnc {
namespace {

constexpr int64_t kPiece = 256;

class NormFire : public Kernel {
 public:
  explicit NormFire(const Node& node)
      : centred_(node.integer("centred", 1) != 0), epsilon_(node.integer("epsilon")),
        fraction_(node.number("fraction_bits", 0, 20)), type_(node.code_type("code_type")),
        codes_(node.codes("codes", type_)), shifts_(node.integers("shifts", {})) {
    for (int64_t shift : shifts_) require(shift >= 0 && shift < 32, "a number of bits is out of range");
    Tensor thresholds;
    require(node.constant(2, &thresholds), "the thresholds are not constant");
    table_ = std::make_unique<FireTable>(thresholds, codes_, node.integer("depth"));
  }
  // r (int32), sign (int32, one for each element of a line), thresholds, rows (likewise, or one), factors (likewise).
  void run(const Call& call) const override {
    const Tensor r = call.input(0), sign = call.input(1), rows = call.input(3), factors = call.input(4);
    require(r.rank() >= 1, "a normalisation of a number");
    const int64_t length = r.dims.back(), lines = length == 0 ? 0 : r.size() / length;
    require(sign.size() == length && (rows.size() == length || rows.size() == 1), "one sign and row is needed for each element");
    require(factors.type == Type::kI32 && (factors.size() == length || factors.size() == 1), "one factor is needed for each element");
    const bool scaled = factors.size() != 1 || factors.as<int32_t>()[0] != 1;
    plan_rows(Shape{rows.size()}, Tensor{rows.type, Shape{rows.size()}, rows.data}, table_->rows());
    char* out = static_cast<char*>(call.output(r.dims, type_));
    const int width = static_cast<int>(width_of(type_));
    FireTable::Positions positions;
    table_->place(rows.as<int32_t>(), rows.size(), &positions);
    const bool shared = rows.size() == 1;
    const double factor = static_cast<double>(int64_t{1} << fraction_);
    call.parallel(lines, 2.0 * static_cast<double>(length), [&](int64_t begin, int64_t end) {
      thread_local Scratch scratch;
      int64_t potential[kPiece];
      int32_t quotient[kPiece];
      for (int64_t line = begin; line < end; ++line) {
        const int32_t* from = r.as<int32_t>() + line * length;
        if (scaled || !shifts_.empty()) {
          int32_t* made = scratch.as<int32_t>(static_cast<size_t>(length));
          if (scaled) {
            kernels().multiply(from, factors.as<int32_t>(), factors.size() == 1 ? 0 : 1, length, made);
            from = made;
          }
          for (int64_t shift : shifts_) {
            kernels().round32(from, static_cast<int>(shift), length, made);
            from = made;
          }
        }
        int64_t sum = 0, squares = 0;
        kernels().sums(from, length, &sum, &squares);
        uint64_t radicand = static_cast<uint64_t>(squares) * static_cast<uint64_t>(length);
        if (centred_) radicand -= static_cast<uint64_t>(sum) * static_cast<uint64_t>(sum);
        radicand += static_cast<uint64_t>(epsilon_);
        require(radicand < uint64_t{1} << 62, "the spread of a normalisation is out of range");
        int64_t gain = static_cast<int64_t>(std::sqrt(static_cast<double>(radicand)));
        if (gain * gain > static_cast<int64_t>(radicand)) --gain;  // the rounded root is off by one at most
        if ((gain + 1) * (gain + 1) <= static_cast<int64_t>(radicand)) ++gain;
        gain = std::max<int64_t>(gain, 1);
        for (int64_t at = 0; at < length; at += kPiece) {
          const int64_t count = std::min(kPiece, length - at);
          // |v| < 2^32, as length * |r| < 2^31, so v * 2^F is an exact double.
          kernels().norm_potential(from + at, sign.as<int32_t>() + at, length, centred_ ? sum : 0, count, potential);
          kernels().quotient64(potential, factor, static_cast<double>(gain), count, quotient);
          fire_line(table_->line(positions, shared ? 0 : at, shared), quotient, count, width, out + (line * length + at) * width);
        }
      }
    });
  }

 private:
  bool centred_;
  int64_t epsilon_;
  int fraction_;
  Type type_;
  std::vector<int64_t> codes_;
  std::vector<int64_t> shifts_;
  std::unique_ptr<FireTable> table_;
};

}  // namespace

void define_fused(std::vector<Definition>* list) {
  constexpr Type i = Type::kI32;
  list->push_back({"NativeNormFire", {i, i, i, i, i}, Type::kUndefined, make<NormFire>});
}

}  // namespace snnc
