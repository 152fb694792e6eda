#define SNNC_TABLE kAvx512
#define SNNC_NAME "avx512"
#include "kernels.inl"
