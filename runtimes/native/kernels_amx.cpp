#define SNNC_TABLE kAmx
#define SNNC_NAME "amx"
#include "kernels.inl"
