#define SNNC_TABLE kVnni
#define SNNC_NAME "avx512-vnni"
#include "kernels.inl"
