#define SNNC_TABLE kAvx2
#define SNNC_NAME "avx2"
#include "kernels.inl"
