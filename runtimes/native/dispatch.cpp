// Which table of inner loops this machine gets.

#include <cstdlib>
#include <cstring>

#include "kernels.h"

#if defined(SNNC_X86) && !defined(SNNC_NO_AMX) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#define SNNC_MATRIX 1
#endif

namespace snnc {
namespace {

#if defined(SNNC_MATRIX)
// Matrix registers: the processor must have them and the kernel must let this process use them.
bool has_matrix() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  const bool tile = (d >> 24 & 1) != 0, bytes = (d >> 25 & 1) != 0;
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return tile && bytes && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

const Kernels& choose() {
#if defined(SNNC_X86)
  // SNNC_NATIVE_ISA limits the choice, for tests: baseline, avx2, avx512, avx512-vnni or amx.
  const char* limit = std::getenv("SNNC_NATIVE_ISA");
  auto allowed = [limit](const Kernels& table) {
    const Kernels* order[] = {&kBaseline, &kAvx2, &kAvx512, &kVnni};  // below the last one
    if (limit == nullptr) return true;
    for (const Kernels* entry : order) {
      if (entry == &table) return true;
      if (std::strcmp(entry->name, limit) == 0) return false;
    }
    return true;
  };
  __builtin_cpu_init();
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  const bool vnni = wide && __builtin_cpu_supports("avx512vnni");
#if defined(SNNC_MATRIX)
  if (vnni && allowed(kAmx) && has_matrix()) return kAmx;
#endif
  if (vnni && allowed(kVnni)) return kVnni;
  if (wide && allowed(kAvx512)) return kAvx512;
  if (__builtin_cpu_supports("avx2") && allowed(kAvx2)) return kAvx2;
#endif
  return kBaseline;
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

bool permutes_bytes() {
#if defined(SNNC_X86)
  __builtin_cpu_init();
  static const bool found = __builtin_cpu_supports("avx512vbmi");
  return found;
#else
  return false;
#endif
}

}  // namespace snnc
