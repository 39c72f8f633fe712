/*
 * A row of logits as the threads of a workgroup see it, and what its filters keep (cpu/ref/sample.c says what it means). Masses and counts are
 * integers of 64 bits, as uvec2 (low, high), so that it does not matter in which order they are added. Needs LOGIT(i), token i's, and bias unless NO_BIAS.
 */
#include "key.glsl"
#define NONE 0xffffffffu
#define THREADS 128u

shared uint weight_low[256], weight_high[256];
shared float best_value[4];
shared uint best_id[4], raised, chosen_digit;
shared uvec2 wanted;

/* The row. */
uint row_at, bias_at, n, thread;
bool has_bias;
float inverse_temperature, top; /* top: the largest biased logit */
uint top_k, least_mass;
uint logit_key_taken, logit_id_taken, mass_key_taken, mass_id_taken; /* the last element that a filter takes, in (key descending, id ascending) */

#ifdef NO_BIAS
bool forbidden(uint i) { return false; }
ds_f32 biased(uint i) { return LOGIT(i); }
#else
bool forbidden(uint i) { return has_bias && U32(bias, bias_at + i) == 0xff800000u; }
ds_f32 biased(uint i) {
    if (has_bias) return LOGIT(i) + F32(bias, bias_at + i);
    return LOGIT(i);
}
#endif

/* --- 64 bits --- */

uvec2 add64(uvec2 a, uvec2 b) {
    const uint low = a.x + b.x;
    return uvec2(low, a.y + b.y + (low < a.x ? 1u : 0u));
}
uvec2 sub64(uvec2 a, uvec2 b) { return uvec2(a.x - b.x, a.y - b.y - (a.x < b.x ? 1u : 0u)); }
bool less64(uvec2 a, uvec2 b) { return a.y < b.y || (a.y == b.y && a.x < b.x); }
uvec2 mul32(uint a, uint b) {
    uvec2 product;
    umulExtended(a, b, product.y, product.x);
    return product;
}
/* A float that holds an integer from 0 to 2^32. */
uvec2 of_float(float x) { return x >= 4294967296.0f ? uvec2(0u, 1u) : uvec2(uint(x), 0u); }
/* ceil(a / b) for b from 1 to 2^32 */
uvec2 divide_up(uvec2 a, uvec2 b) {
    a = add64(a, sub64(b, uvec2(1u, 0u)));
    uvec2 quotient = uvec2(0u), rest = uvec2(0u);
    for (int bit = 63; bit >= 0; bit--) {
        const uint next = bit >= 32 ? a.y >> (bit - 32) & 1u : a.x >> bit & 1u;
        rest = uvec2(rest.x << 1 | next, rest.y << 1 | rest.x >> 31);
        if (less64(rest, b)) continue;
        rest = sub64(rest, b);
        if (bit >= 32) quotient.y |= 1u << (bit - 32);
        else quotient.x |= 1u << bit;
    }
    return quotient;
}

/* To a sum in shared memory: the carry of each addition is known to who made it. */
void add_weight(uint digit, uvec2 weight) {
    const uint before = atomicAdd(weight_low[digit], weight.x);
    const uint carry = before + weight.x < before ? 1u : 0u;
    if (weight.y + carry != 0u) atomicAdd(weight_high[digit], weight.y + carry);
}

/* --- the largest of all threads' (value, id) --- */

void challenge(inout float value, inout uint id, float other, uint other_id) {
    if (other_id == NONE || (id != NONE && !ds_better(other, other_id, value, id))) return;
    value = other;
    id = other_id;
}
void best_of_all(inout float value, inout uint id) {
    for (uint mask = 16; mask > 0u; mask >>= 1) {
        const float other = ds_float(ds_shuffle_xor(ds_bits(value), mask));
        const uint other_id = ds_shuffle_xor(id, mask);
        challenge(value, id, other, other_id);
    }
    barrier();
    if (thread % 32u == 0u) {
        best_value[thread / 32u] = value;
        best_id[thread / 32u] = id;
    }
    barrier();
    for (uint i = 0; i < 4u; i++) challenge(value, id, best_value[i], best_id[i]);
    barrier();
}

/* --- selection --- */

uint logit_key(uint i) { return ds_key(biased(i)); }
ds_f32 heat(uint i) {
    const ds_f32 below = biased(i) - top;
    return below * inverse_temperature;
}
/* A mass as a float that holds an integer: the bits of floats above 0 have their order. */
uint mass_key(uint i) { return ds_bits(ds_mass_float(heat(i))); }

bool takes(uint key, uint id, uint last_key, uint last_id) { return key > last_key || (key == last_key && id <= last_id); }

/* The key of token i where it still stands before the filter by mass, or by logit; 0: it does not. */
uint standing(uint i, bool by_mass) {
    if (forbidden(i)) return 0u;
    if (!by_mass) return logit_key(i);
    if (top_k != 0u && !takes(logit_key(i), i, logit_key_taken, logit_id_taken)) return 0u;
    return mass_key(i);
}
uvec2 weight_of(uint key, bool by_mass) { return by_mass ? of_float(ds_float(key)) : uvec2(1u, 0u); }

void clear_weights() {
    barrier();
    for (uint d = thread; d < 256u; d += THREADS) weight_low[d] = weight_high[d] = 0u;
    barrier();
}

/* The digit, from the top, at which `wanted` is reached; `wanted` becomes what is left to take there. */
uint choose_digit() {
    barrier();
    if (thread == 0u) {
        uint digit = 255u;
        for (; digit > 0u; digit--) {
            const uvec2 weight = uvec2(weight_low[digit], weight_high[digit]);
            if (!less64(weight, wanted)) break;
            wanted = sub64(wanted, weight);
        }
        chosen_digit = digit;
    }
    barrier();
    return chosen_digit;
}

/* The shortest beginning, in the order (key descending, id ascending), whose weights reach `target` (at least 1). */
void select(bool by_mass, uvec2 target, out uint last_key, out uint last_id) {
    barrier();
    if (thread == 0u) wanted = target;
    uint prefix = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        clear_weights();
        for (uint i = thread; i < n; i += THREADS) {
            const uint key = standing(i, by_mass);
            if (key == 0u || (shift < 24 && key >> (shift + 8) != prefix >> (shift + 8))) continue;
            add_weight(key >> shift & 255u, weight_of(key, by_mass));
        }
        prefix |= choose_digit() << shift;
    }
    /* All that is left to take has this key: so many of its tokens, the lowest ids first. */
    barrier();
    if (thread == 0u) {
        const uvec2 each = weight_of(prefix, by_mass);
        wanted = each == uvec2(0u) ? uvec2(1u, 0u) : divide_up(wanted, each);
    }
    uint inverse = 0; /* of the id: its digits are chosen from the top as well */
    for (int shift = 24; shift >= 0; shift -= 8) {
        clear_weights();
        for (uint i = thread; i < n; i += THREADS) {
            if (standing(i, by_mass) != prefix || (shift < 24 && ~i >> (shift + 8) != inverse >> (shift + 8))) continue;
            add_weight(~i >> shift & 255u, uvec2(1u, 0u));
        }
        inverse |= choose_digit() << shift;
    }
    last_key = prefix;
    last_id = ~inverse;
}

/* --- filters --- */

/* A fraction below 1 in units of 2^-32. */
ds_f32 fixed_point(float fraction) { return ds_nearest(ds_min(fraction, 1.0f) * 4294967296.0f); }
/* The rounded product of a with it. */
uvec2 share(uvec2 a, float fraction) {
    const uvec2 f = of_float(fraction);
    if (f.y != 0u) return a;
    const uvec2 low = add64(mul32(a.x, f.x), uvec2(0x80000000u, 0u));
    return add64(mul32(a.y, f.x), uvec2(low.y, 0u));
}

uvec2 sum_of_all(uvec2 mine) {
    clear_weights();
    add_weight(0u, mine);
    barrier();
    return uvec2(weight_low[0], weight_high[0]);
}

void filter_row(float top_p, float min_p) {
    logit_key_taken = mass_key_taken = 0u;
    logit_id_taken = mass_id_taken = NONE;
    if (top_k != 0u) {
        uvec2 candidates = uvec2(0u);
        for (uint i = thread; i < n; i += THREADS) candidates = add64(candidates, uvec2(forbidden(i) ? 0u : 1u, 0u));
        candidates = sum_of_all(candidates);
        uint key = 0u, id = NONE;
        if (less64(uvec2(top_k, 0u), candidates)) select(false, uvec2(top_k, 0u), key, id);
        logit_key_taken = key;
        logit_id_taken = id;
    }
    if (top_p > 0.0f && top_p < 1.0f) {
        uvec2 mass = uvec2(0u);
        for (uint i = thread; i < n; i += THREADS) mass = add64(mass, weight_of(standing(i, true), true));
        mass = share(sum_of_all(mass), fixed_point(top_p));
        uint key, id;
        select(true, mass == uvec2(0u) ? uvec2(1u, 0u) : mass, key, id);
        mass_key_taken = key;
        mass_id_taken = id;
    }
    least_mass = min_p > 0.0f ? ds_bits(fixed_point(min_p)) : 0u;
}

bool kept(uint i) {
    if (forbidden(i) || (top_k != 0u && !takes(logit_key(i), i, logit_key_taken, logit_id_taken))) return false;
    const uint key = mass_key(i);
    return key >= least_mass && takes(key, i, mass_key_taken, mass_id_taken);
}

/* --- random words: Philox 4x32-10 (base/philox.h) --- */

uvec4 philox(uvec2 seed, uvec4 counter) {
    uvec4 c = counter;
    uvec2 k = seed;
    for (int round = 0; round < 10; round++) {
        const uvec2 p0 = mul32(0xd2511f53u, c.x), p1 = mul32(0xcd9e8d57u, c.z);
        c = uvec4(p1.y ^ c.y ^ k.x, p1.x, p0.y ^ c.w ^ k.y, p0.x);
        k += uvec2(0x9e3779b9u, 0xbb67ae85u);
    }
    return c;
}
uint philox_word(uvec2 seed, uint id, uint position, uint purpose, uint stream) {
    return philox(seed, uvec4(id >> 2, position, purpose, stream))[id & 3u];
}
