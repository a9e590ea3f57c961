//! The code for x86-64: with vectors of 32 bytes (AVX2) and of 64 (AVX-512).

#![expect(unsafe_code, reason = "see the safety argument of the crate")]

use std::arch::x86_64::{
    __m256i, _mm_clmulepi64_si128, _mm_cvtsi64_si128, _mm_cvtsi128_si64, _mm_set1_epi8,
    _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8,
    _mm512_cmpeq_epi8_mask, _mm512_loadu_si512, _mm512_or_si512, _mm512_set1_epi8,
};

use super::{BYTES, Block};

/// The bits in which the four brackets differ. With all of them set each is [`BRACKET`], and so are `Y`,
/// `_`, `y` and DEL.
const BRACKET_BITS: u8 = 0x26;
const BRACKET: u8 = b'{' | BRACKET_BITS;

pub(super) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("pclmulqdq")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("popcnt")
}

pub(super) fn has_avx512() -> bool {
    has_avx2() && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
}

#[target_feature(enable = "avx2,pclmulqdq")]
pub(super) fn find_avx2(blocks: &[[u8; BYTES]], tail: u8, found: &mut [Block]) {
    for (block, found) in blocks.iter().zip(found) {
        let (halves, _) = block.as_chunks::<32>();
        // SAFETY: each half is 32 bytes, which may lie anywhere.
        let load = |half: &[u8; 32]| unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
        let halves = [load(&halves[0]), load(&halves[1])];
        let equal = |[low, high]: [__m256i; 2], byte: u8| {
            let wanted = _mm256_set1_epi8(byte.cast_signed());
            let bits = |half| _mm256_movemask_epi8(_mm256_cmpeq_epi8(half, wanted)).cast_unsigned();
            u64::from(bits(low)) | u64::from(bits(high)) << 32
        };
        let each = |byte| equal(halves, byte);
        let differ = _mm256_set1_epi8(BRACKET_BITS.cast_signed());
        let alike = halves.map(|half| _mm256_or_si256(half, differ));
        let quotes = each(b'"');
        *found = Block {
            quotes,
            strings: prefix_xor(quotes),
            backslashes: each(b'\\'),
            brackets: equal(alike, BRACKET),
            colons: each(b':'),
            tails: each(tail),
        };
    }
}

#[target_feature(enable = "avx2,avx512f,avx512bw,pclmulqdq")]
pub(super) fn find_avx512(blocks: &[[u8; BYTES]], tail: u8, found: &mut [Block]) {
    for (block, found) in blocks.iter().zip(found) {
        // SAFETY: a block is 64 bytes, which may lie anywhere.
        let bytes = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
        let each = |byte: u8| _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(byte.cast_signed()));
        let alike = _mm512_or_si512(bytes, _mm512_set1_epi8(BRACKET_BITS.cast_signed()));
        let quotes = each(b'"');
        *found = Block {
            quotes,
            strings: prefix_xor(quotes),
            backslashes: each(b'\\'),
            brackets: _mm512_cmpeq_epi8_mask(alike, _mm512_set1_epi8(BRACKET.cast_signed())),
            colons: each(b':'),
            tails: each(tail),
        };
    }
}

#[target_feature(enable = "bmi1,popcnt")]
pub(super) fn write(blocks: &[u64], start: u32, places: &mut [u32]) -> usize {
    super::write(blocks, start, places)
}

/// Each bit becomes the XOR of itself and all the lower ones: the product with all ones, without
/// carries.
#[target_feature(enable = "pclmulqdq")]
fn prefix_xor(bits: u64) -> u64 {
    let ones = _mm_set1_epi8(-1);
    let product = _mm_clmulepi64_si128::<0>(_mm_cvtsi64_si128(bits.cast_signed()), ones);
    _mm_cvtsi128_si64(product).cast_unsigned()
}
