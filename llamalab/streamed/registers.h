// Numbers of 16 and 32 bits in registers of 256 bits: loaded, widened to fp32, added up.

#pragma once
#include <cstdint>
#include <immintrin.h>

namespace {

struct bf16 { uint16_t bits; };
struct fp16 { uint16_t bits; };

constexpr long LANES = 8;  // floats in a register

inline __m256i load(const void *from) { return _mm256_loadu_si256(static_cast<const __m256i *>(from)); }
inline __m128i load_half(const void *from) { return _mm_loadu_si128(static_cast<const __m128i *>(from)); }

inline float sum(__m256 v) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}

inline __m256 wide(const float *from) { return _mm256_loadu_ps(from); }
inline __m256 wide(const fp16 *from) { return _mm256_cvtph_ps(load_half(from)); }
inline __m256 wide(const bf16 *from) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_half(from)), 16));
}
// 16 weights in two registers. Those of bf16 are apart as they lie, in even and odd places: x is laid the same way.
template <class T> inline void widen(const T *from, __m256 &first, __m256 &second) {
    first = wide(from);
    second = wide(from + LANES);
}
template <> inline void widen(const bf16 *from, __m256 &first, __m256 &second) {
    const __m256i pairs = load(from);
    first = _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
    second = _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(0xffff0000)));
}
template <class T> inline long place(long i) { return i; }
template <> inline long place<bf16>(long i) { return i - i % 16 + i % 2 * 8 + i % 16 / 2; }

}  // namespace
