#include "op.h"
namespace snnc {
void define_fused(std::vector<Definition>*) {}
}  // namespace snnc
