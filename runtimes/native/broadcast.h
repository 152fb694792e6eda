// Elementwise operators of two tensors that broadcast to each other.
#pragma once

#include <algorithm>
#include <functional>

#include "op.h"

namespace snnc {

// Lines of a broadcast: `lines` of `length` elements; in a line an operand steps by 1 or stays (step 0).
struct Broadcast {
  Shape out;
  int64_t lines = 1, length = 1;
  int a_step = 1, b_step = 1;
  std::vector<int64_t> a_start, b_start;  // where each line begins
};

inline Broadcast broadcast(const Shape& a, const Shape& b) {
  const size_t rank = std::max(a.size(), b.size());
  Shape x(rank, 1), y(rank, 1);
  std::copy(a.begin(), a.end(), x.end() - static_cast<int64_t>(a.size()));
  std::copy(b.begin(), b.end(), y.end() - static_cast<int64_t>(b.size()));
  Broadcast plan;
  for (size_t axis = 0; axis < rank; ++axis) {
    require(x[axis] == y[axis] || x[axis] == 1 || y[axis] == 1, "the tensors do not broadcast to each other");
    plan.out.push_back(x[axis] == 1 ? y[axis] : x[axis]);
  }
  if (product(plan.out) == 0) {
    plan.lines = 0;
    return plan;
  }
  // The longest tail over which each operand moves all the time or not at all.
  size_t tail = rank;
  bool a_moves = false, b_moves = false, a_stays = false, b_stays = false;
  while (tail > 0) {
    const size_t axis = tail - 1;
    if (plan.out[axis] != 1) {
      const bool am = x[axis] != 1, bm = y[axis] != 1;
      if ((am && a_stays) || (!am && a_moves) || (bm && b_stays) || (!bm && b_moves)) break;
      (am ? a_moves : a_stays) = true;
      (bm ? b_moves : b_stays) = true;
      plan.length *= plan.out[axis];
    }
    --tail;
  }
  plan.a_step = a_moves || !a_stays ? 1 : 0;
  plan.b_step = b_moves || !b_stays ? 1 : 0;
  plan.lines = product(plan.out, 0, tail);
  plan.a_start.resize(static_cast<size_t>(plan.lines));
  plan.b_start.resize(static_cast<size_t>(plan.lines));
  const int64_t a_line = product(x, tail), b_line = product(y, tail);
  for (int64_t line = 0; line < plan.lines; ++line) {
    int64_t rest = line, at = 0, bt = 0, a_stride = a_line, b_stride = b_line;
    for (size_t axis = tail; axis-- > 0;) {
      const int64_t here = rest % plan.out[axis];
      rest /= plan.out[axis];
      if (x[axis] != 1) at += here * a_stride;
      if (y[axis] != 1) bt += here * b_stride;
      a_stride *= x[axis];
      b_stride *= y[axis];
    }
    plan.a_start[line] = at;
    plan.b_start[line] = bt;
  }
  return plan;
}

// Calls body(out offset, a offset, b offset, count) for pieces of lines, on several threads.
inline void over(const Call& call, const Broadcast& plan, double cost,
                 const std::function<void(int64_t, int64_t, int64_t, int64_t)>& body) {
  if (plan.lines == 0) return;
  if (plan.lines < 8 && plan.length > 4096) {
    for (int64_t line = 0; line < plan.lines; ++line) {
      call.parallel(plan.length, cost, [&](int64_t begin, int64_t end) {
        body(line * plan.length + begin, plan.a_start[line] + begin * plan.a_step, plan.b_start[line] + begin * plan.b_step, end - begin);
      });
    }
    return;
  }
  call.parallel(plan.lines, cost * static_cast<double>(plan.length) + 5.0, [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line) body(line * plan.length, plan.a_start[line], plan.b_start[line], plan.length);
  });
}

}  // namespace snnc
