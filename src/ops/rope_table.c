#include "ops/rope_table.h"

#include "ops/numerics64.h"

/* What the reference calls pos_freqs: f32(theta) ^ (2i / n_rot), exponent and power rounded to f32. */
static float period(const struct ds_rope_config *config, uint32_t i) {
    const float exponent = (float)(2 * (uint64_t)i) / (float)config->n_rot;
    return (float)ds64_pow((double)(float)config->theta, (double)exponent);
}

static double or_default(double value, double otherwise) { return value != 0 ? value : otherwise; }

static double clamp(double x, double low, double high) {
    x = x > low ? x : low; /* a NaN becomes `low` */
    return x < high ? x : high;
}

static double yarn_factor(const struct ds_rope_config *config) {
    if (config->factor != 0) return config->factor;
    return config->max_context != 0 ? (double)config->max_context / config->original_context : 1.0;
}

static double yarn_mscale(double factor, double mscale) { return factor > 1 ? 0.1 * mscale * ds64_log(factor) + 1.0 : 1.0; }

static double yarn_attention_factor(const struct ds_rope_config *config) {
    const double factor = yarn_factor(config);
    if (config->attention_factor != 0) return config->attention_factor;
    if (config->mscale != 0 && config->mscale_all_dim != 0)
        return yarn_mscale(factor, config->mscale) / yarn_mscale(factor, config->mscale_all_dim);
    return yarn_mscale(factor, 1.0);
}

/* The pair, as a fraction, that makes `turns` full turns over the original context. */
static double yarn_pair(const struct ds_rope_config *config, double turns) {
    const double pair =
        config->n_rot * ds64_log(config->original_context / (turns * 2 * DS64_PI)) / (2 * ds64_log(config->theta));
    return clamp(pair, -1e9, 1e9); /* safe to convert to an integer */
}

static double round_down(double x) {
    const double t = (double)(int64_t)x;
    return t > x ? t - 1 : t;
}

/* Pairs before the ramp keep their frequency, pairs behind it are interpolated. */
static void yarn_inv_freq(const struct ds_rope_config *config, float *inv_freq) {
    double low = yarn_pair(config, or_default(config->beta_fast, 32));
    double high = yarn_pair(config, or_default(config->beta_slow, 1));
    if (!config->no_truncate) {
        low = round_down(low);
        high = -round_down(-high);
    }
    if (low < 0) low = 0;
    if (high > (double)config->n_rot - 1) high = (double)config->n_rot - 1;
    if (low == high) high += 0.001; /* as the reference does */

    const float factor = (float)yarn_factor(config);
    const float start = (float)low, width = (float)(high - low);
    for (uint32_t i = 0; i < config->n_rot / 2; i++) {
        const float p = period(config, i);
        const float kept = 1.0f / p, interpolated = 1.0f / (factor * p);
        const float ramp = (float)clamp(((float)i - start) / width, 0, 1);
        const float share = 1.0f - ramp;
        inv_freq[i] = interpolated * (1.0f - share) + kept * share;
    }
}

/* Wavelengths above original / low_freq_factor are stretched by `factor`, below original / high_freq_factor kept. */
static float llama3_scaled(const struct ds_rope_config *config, float f) {
    const float factor = (float)or_default(config->factor, 1);
    const float original = (float)config->original_context;
    const float longest = (float)(config->original_context / config->low_freq_factor);
    const float shortest = (float)(config->original_context / config->high_freq_factor);
    const float wavelength = (1.0f / f) * (float)(2 * DS64_PI); /* the reference divides by way of the reciprocal */
    if (wavelength > longest) return f / factor;
    if (wavelength < shortest) return f;
    const float range = (float)(config->high_freq_factor - config->low_freq_factor);
    const float smooth = ((1.0f / wavelength) * original - (float)config->low_freq_factor) / range;
    return (1.0f - smooth) * f / factor + smooth * f;
}

void ds_rope_inv_freq(const struct ds_rope_config *config, float *inv_freq, float *attention_scale) {
    const uint32_t n_pairs = config->n_rot / 2;
    *attention_scale = 1.0f;
    if (config->kind == DS_ROPE_YARN) {
        yarn_inv_freq(config, inv_freq);
        *attention_scale = (float)yarn_attention_factor(config);
        return;
    }
    const float factor = (float)or_default(config->factor, 1);
    for (uint32_t i = 0; i < n_pairs; i++) {
        const float f = 1.0f / period(config, i);
        switch (config->kind) {
        case DS_ROPE_LINEAR: inv_freq[i] = f / factor; break;
        case DS_ROPE_LLAMA3: inv_freq[i] = llama3_scaled(config, f); break;
        case DS_ROPE_PROPORTIONAL: inv_freq[i] = config->n_pairs == 0 || i < config->n_pairs ? f / factor : 0.0f; break;
        default: inv_freq[i] = f; break;
        }
    }
}

void ds_rope_table_from(const float *inv_freq, uint32_t n_pairs, float attention_scale, uint32_t first_position, uint32_t count,
                        float *cos, float *sin) {
    for (uint32_t row = 0; row < count; row++) {
        const float position = (float)(first_position + row);
        for (uint32_t i = 0; i < n_pairs; i++) {
            const float angle = position * inv_freq[i];
            double s, c;
            ds64_sincos((double)angle, &s, &c);
            cos[(uint64_t)row * n_pairs + i] = (float)c * attention_scale;
            sin[(uint64_t)row * n_pairs + i] = (float)s * attention_scale;
        }
    }
}

void ds_rope_table(const struct ds_rope_config *config, uint32_t first_position, uint32_t count, float *cos, float *sin) {
    const uint32_t n_pairs = config->n_rot / 2;
    if (count == 0) return;
    /* The frequencies wait in the last row of sin, where each is read just before its own place is written. */
    float *inv_freq = sin + (uint64_t)(count - 1) * n_pairs;
    float attention_scale;
    ds_rope_inv_freq(config, inv_freq, &attention_scale);
    ds_rope_table_from(inv_freq, n_pairs, attention_scale, first_position, count, cos, sin);
}
