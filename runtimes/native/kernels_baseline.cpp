#define SNNC_TABLE kBaseline
#define SNNC_NAME "baseline"
#include "kernels.inl"
