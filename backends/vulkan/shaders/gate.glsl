/* How far a gate is open: cpu/ref/glu.c. */
layout(constant_id = 2) const uint ACTIVATION = 0; /* ds_activation */

ds_f32 ds_opened(float x) { return ACTIVATION == 0u ? ds_silu(x) : ACTIVATION == 1u ? ds_gelu(x) : ds_sigmoid(x); }
