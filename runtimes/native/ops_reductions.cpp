// MembraneSum, SpikeSum, MembraneMax, MembraneMask, NormPotential, NormGain.

#include <algorithm>
#include <cmath>

#include "broadcast.h"
#include "kernels.h"
#include "op.h"

namespace snnc {
namespace {

// The elements that one result gathers: those at kept[i] + gathered[j]; `run` of them lie side by side.
struct Reduction {
  Shape kept_dims, dropped_dims;  // with extent 1, and without the axes
  std::vector<int64_t> kept, gathered;
  int64_t count = 1;  // elements of a result
  bool tail = false;  // the axes are the last ones
};

Reduction reduction(const Shape& dims, const std::vector<int64_t>& axes) {
  Reduction plan;
  const int64_t rank = static_cast<int64_t>(dims.size());
  std::vector<bool> reduced(dims.size(), false);
  require(!axes.empty(), "no axes are given");
  for (int64_t axis : axes) {
    require(axis >= -rank && axis < rank, "an axis is out of range");
    reduced[static_cast<size_t>(axis < 0 ? axis + rank : axis)] = true;
  }
  Shape gathered;
  plan.tail = true;
  bool seen = false;
  for (size_t axis = 0; axis < dims.size(); ++axis) {
    plan.kept_dims.push_back(reduced[axis] ? 1 : dims[axis]);
    (reduced[axis] ? gathered : plan.dropped_dims).push_back(dims[axis]);
    if (seen && !reduced[axis]) plan.tail = false;
    seen = seen || reduced[axis];
  }
  plan.count = product(gathered);
  auto offsets = [&](bool which) {
    std::vector<int64_t> at(1, 0);
    for (size_t axis = 0; axis < dims.size(); ++axis) {
      if (reduced[axis] == which && dims[axis] == 0) return std::vector<int64_t>();  // whatever the others are
    }
    for (size_t axis = 0; axis < dims.size(); ++axis) {
      if (reduced[axis] != which) continue;
      const int64_t stride = product(dims, axis + 1);
      std::vector<int64_t> next;
      next.reserve(at.size() * static_cast<size_t>(dims[axis]));
      for (int64_t base : at) {
        for (int64_t i = 0; i < dims[axis]; ++i) next.push_back(base + i * stride);
      }
      at.swap(next);
    }
    return at;
  };
  plan.kept = offsets(false);
  if (!plan.tail) plan.gathered = offsets(true);
  return plan;
}

// Copies what a result gathers to a line, unless it lies side by side already.
template <class T>
const T* line_of(const Reduction& plan, const T* data, int64_t which, std::vector<T>* copy) {
  const T* first = data + plan.kept[which];
  if (plan.tail) return first;
  copy->resize(static_cast<size_t>(plan.count));
  for (int64_t j = 0; j < plan.count; ++j) (*copy)[j] = first[plan.gathered[j]];
  return copy->data();
}

template <class F>
void over_results(const Call& call, const Reduction& plan, F body) {
  call.parallel(static_cast<int64_t>(plan.kept.size()), 0.5 * static_cast<double>(plan.count) + 5.0,
                [&](int64_t begin, int64_t end) {
                  for (int64_t which = begin; which < end; ++which) body(which);
                });
}

class Sum : public Kernel {
 public:
  explicit Sum(const Node& node) : axes_(node.integers("axes")), keep_(node.integer("keepdims", 1) != 0) {}
  void run(const Call& call) const override {
    const Tensor x = call.input(0);
    const Reduction plan = reduction(x.dims, axes_);
    int32_t* out = call.output_as<int32_t>(keep_ ? plan.kept_dims : plan.dropped_dims);
    auto sums = [&](const auto* data) {
      using T = std::remove_const_t<std::remove_pointer_t<decltype(data)>>;
      over_results(call, plan, [&](int64_t which) {
        thread_local std::vector<T> copy;
        const T* line = line_of(plan, data, which, &copy);
        uint32_t total = 0;
        for (int64_t j = 0; j < plan.count; ++j) total += static_cast<uint32_t>(int32_t{line[j]});
        out[which] = static_cast<int32_t>(total);
      });
    };
    switch (x.type) {
      case Type::kU8:
        return sums(x.as<uint8_t>());
      case Type::kI8:
        return sums(x.as<int8_t>());
      case Type::kI16:
        return sums(x.as<int16_t>());
      case Type::kI32:
        return sums(x.as<int32_t>());
      default:
        refuse("a sum of this element type");
    }
  }

 private:
  std::vector<int64_t> axes_;
  bool keep_;
};

class MembraneMax : public Kernel {
 public:
  explicit MembraneMax(const Node& node) : axis_(node.integer("axis")) {}
  void run(const Call& call) const override {
    const Tensor a = call.input(0);
    const Reduction plan = reduction(a.dims, {axis_});
    require(plan.count > 0 || plan.kept.empty(), "the largest of no elements");
    int32_t* out = call.output_as<int32_t>(plan.kept_dims);
    over_results(call, plan, [&](int64_t which) {
      thread_local std::vector<int32_t> copy;
      out[which] = kernels().largest(line_of(plan, a.as<int32_t>(), which, &copy), plan.count);
    });
  }

 private:
  int64_t axis_;
};

class MembraneMask : public Kernel {
 public:
  explicit MembraneMask(const Node& node) : axis_(node.integer("axis")) {}
  void run(const Call& call) const override {
    const Tensor s = call.input(0), gate = call.input(1);
    const Reduction plan = reduction(s.dims, {axis_});
    require(plan.count > 0 || plan.kept.empty(), "the smallest of no elements");
    const Broadcast both = broadcast(s.dims, gate.dims);
    const Shape& dims = both.out;
    require(dims == s.dims, "the gate has more elements than the membrane");
    int32_t* out = call.output_as<int32_t>(dims);
    const int64_t stride = product(s.dims, static_cast<size_t>(axis_ < 0 ? axis_ + s.rank() : axis_) + 1);
    std::vector<int32_t> least(plan.kept.size());
    over_results(call, plan, [&](int64_t which) {
      thread_local std::vector<int32_t> copy;
      least[which] = kernels().smallest(line_of(plan, s.as<int32_t>(), which, &copy), plan.count);
    });
    const uint8_t* open = gate.as<uint8_t>();  // a byte of another value than 0 and 1 is true
    over(call, both, 0.7, [&](int64_t to, int64_t at, int64_t bt, int64_t count) {
      for (int64_t i = 0; i < count; ++i) {
        const int64_t place = to + i;
        const int64_t row = place / (stride * plan.count) * stride + place % stride;
        out[place] = open[bt + i * both.b_step] ? s.as<int32_t>()[at + i * both.a_step] : least[row];
      }
    });
  }

 private:
  int64_t axis_;
};

int64_t integer_root(int64_t value) {
  int64_t root = static_cast<int64_t>(std::sqrt(static_cast<double>(value)));
  if (root * root > value) --root;  // the rounded root is off by one at most
  if ((root + 1) * (root + 1) <= value) ++root;
  return root;
}

class NormGain : public Kernel {
 public:
  explicit NormGain(const Node& node)
      : axes_(node.integers("axes")), centred_(node.integer("centred", 1) != 0), epsilon_(node.integer("epsilon")) {}
  void run(const Call& call) const override {
    const Tensor r = call.input(0);
    const Reduction plan = reduction(r.dims, axes_);
    int64_t* out = call.output_as<int64_t>(plan.kept_dims);
    over_results(call, plan, [&](int64_t which) {
      thread_local std::vector<int32_t> copy;
      int64_t sum = 0, squares = 0;
      kernels().sums(line_of(plan, r.as<int32_t>(), which, &copy), plan.count, &sum, &squares);
      uint64_t radicand = static_cast<uint64_t>(squares) * static_cast<uint64_t>(plan.count);
      if (centred_) radicand -= static_cast<uint64_t>(sum) * static_cast<uint64_t>(sum);
      radicand += static_cast<uint64_t>(epsilon_);
      require(radicand < uint64_t{1} << 62, "the spread of a normalisation is out of range");
      out[which] = std::max<int64_t>(1, integer_root(static_cast<int64_t>(radicand)));
    });
  }

 private:
  std::vector<int64_t> axes_;
  bool centred_;
  int64_t epsilon_;
};

class NormPotential : public Kernel {
 public:
  explicit NormPotential(const Node& node) : axes_(node.integers("axes")), centred_(node.integer("centred", 1) != 0) {}
  void run(const Call& call) const override {
    const Tensor r = call.input(0), sign = call.input(1);
    const Reduction plan = reduction(r.dims, axes_);
    const Broadcast signs = broadcast(r.dims, sign.dims);
    require(signs.out == r.dims, "the signs do not broadcast to the membrane");
    int64_t* out = call.output_as<int64_t>(r.dims);
    if (plan.tail && sign.size() == plan.count && product(sign.dims, 0, sign.dims.size() - axes_.size()) == 1) {
      over_results(call, plan, [&](int64_t which) {
        const int32_t* line = r.as<int32_t>() + plan.kept[which];
        int64_t sum = 0, squares = 0;
        if (centred_) kernels().sums(line, plan.count, &sum, &squares);
        kernels().norm_potential(line, sign.as<int32_t>(), plan.count, sum, plan.count, out + plan.kept[which]);
      });
      return;
    }
    // Any axes and any broadcast of the signs, element by element.
    std::vector<int64_t> totals(static_cast<size_t>(r.size()), 0);
    if (centred_) {
      const std::vector<int64_t> inside = plan.tail ? std::vector<int64_t>() : plan.gathered;
      for (int64_t base : plan.kept) {
        int64_t sum = 0;
        for (int64_t j = 0; j < plan.count; ++j) sum += r.as<int32_t>()[base + (plan.tail ? j : inside[j])];
        for (int64_t j = 0; j < plan.count; ++j) totals[base + (plan.tail ? j : inside[j])] = sum;
      }
    }
    for (int64_t line = 0; line < signs.lines; ++line) {
      for (int64_t i = 0; i < signs.length; ++i) {
        const int64_t at = line * signs.length + i;
        const int32_t* upright = sign.as<int32_t>() + signs.b_start[line] + i * signs.b_step;
        kernels().norm_potential(r.as<int32_t>() + at, upright, plan.count, totals[at], 1, out + at);
      }
    }
  }

 private:
  std::vector<int64_t> axes_;
  bool centred_;
};

}  // namespace

void define_reductions(std::vector<Definition>* list) {
  constexpr Type any = Type::kUndefined, i = Type::kI32;
  list->push_back({"MembraneSum", {i}, i, make<Sum>});
  list->push_back({"SpikeSum", {any}, i, make<Sum>});
  list->push_back({"MembraneMax", {i}, i, make<MembraneMax>});
  list->push_back({"MembraneMask", {i, Type::kBool}, i, make<MembraneMask>});
  list->push_back({"NormGain", {i}, Type::kI64, make<NormGain>});
  list->push_back({"NormPotential", {i, i}, Type::kI64, make<NormPotential>});
}

}  // namespace snnc
