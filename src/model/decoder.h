/*
 * What target files share around their layers: the vocabulary and both ends of the graph. A family whose layers are those of
 * layer.h needs nothing else (ds_decoder_load, ds_decoder_build).
 */
#ifndef DSPARK_MODEL_DECODER_H
#define DSPARK_MODEL_DECODER_H

#include "model/layer.h"

/* Names of the model's own tensors ("model." or blk.) and of those beside it (lm_head). */
struct ds_naming ds_decoder_naming(const struct ds_model *model);
struct ds_naming ds_decoder_naming_beside(const struct ds_model *model);

/* config.vocabulary and config.tied (`tied`: unless config.json says otherwise); needs config.hidden for its message. */
ds_status ds_decoder_vocabulary(struct ds_model *model, const struct ds_naming *naming, bool tied, struct ds_error *err);
/* ds_config_read_family and the vocabulary. */
ds_status ds_decoder_configure(struct ds_model *model, const struct ds_family *family, struct ds_error *err);

/* Embedding, final norm (`offset` is added to it), head. */
ds_status ds_decoder_load_ends(struct ds_model *model, float offset, struct ds_error *err);
ds_status ds_decoder_load(struct ds_model *model, struct ds_error *err); /* and layers of layer.h */

/*
 * A part of a pass: begin gives the embedded rows, or what comes in; layer_done goes behind every layer; finish hands out, or norms and makes
 * logits where they are wanted.
 */
struct ds_view ds_decoder_begin(const struct ds_model *model, struct ds_graph *graph, const struct ds_model_part *part, const struct ds_rows *rows,
                                const struct ds_model_outputs *out);
void ds_decoder_layer_done(const struct ds_model *model, struct ds_graph *graph, const struct ds_model_outputs *out, uint32_t layer,
                           struct ds_view x);
void ds_decoder_finish(const struct ds_model *model, struct ds_graph *graph, const struct ds_model_part *part, const struct ds_rows *rows,
                       const struct ds_model_outputs *out, struct ds_view x);

struct ds_layer_context ds_decoder_context(const struct ds_model *model, const struct ds_model_part *part, const struct ds_rows *rows);
void ds_decoder_build(const struct ds_model *model, struct ds_graph *graph, const struct ds_model_part *part, const struct ds_rows *rows,
                      const struct ds_cache *cache, const struct ds_model_outputs *out);

#endif
