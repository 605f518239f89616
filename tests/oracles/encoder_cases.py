"""The tiny random encoders: per `model_type`, config.json contents and batches, as `hf_cases.py` has them."""

from __future__ import annotations

from typing import Any

from hf_cases import ABSENT, YARN_LONG, Case, Config, _without_absent, new_rope

UNTYPED = ("input_ids", "attention_mask")


def roberta(**fields: Any) -> Config:
    base = {
        "model_type": "roberta",
        "architectures": ["RobertaModel"],
        "vocab_size": 101,
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 42,
        "type_vocab_size": 1,
        "layer_norm_eps": 0.05,
        "hidden_act": "gelu",
        "pad_token_id": 1,
    }
    return _without_absent({**base, **fields})


def xlm_roberta(**fields: Any) -> Config:
    names = {"model_type": "xlm-roberta", "architectures": ["XLMRobertaModel"]}
    return {**roberta(**fields), **names}


def mpnet(**fields: Any) -> Config:
    base = roberta(relative_attention_num_buckets=32, type_vocab_size=ABSENT)
    return _without_absent({**base, "model_type": "mpnet", "architectures": ["MPNetModel"], **fields})


def distilbert(**fields: Any) -> Config:
    base = {
        "model_type": "distilbert",
        "architectures": ["DistilBertModel"],
        "vocab_size": 101,
        "dim": 48,
        "hidden_dim": 96,
        "n_layers": 2,
        "n_heads": 4,
        "max_position_embeddings": 40,
        "activation": "gelu",
    }
    return _without_absent({**base, **fields})


TYPED = ("input_ids", "attention_mask", "token_type_ids")


def _roberta_cases(make: Any) -> list[Case]:
    return [
        Case("plain", make(), inputs=UNTYPED),
        Case("left_padding", make(num_attention_heads=6), (16, 9, 5), "left", inputs=UNTYPED),
        Case("two_types", make(type_vocab_size=2, intermediate_size=61), (17, 14), inputs=TYPED),
        Case("pad_at_zero", make(pad_token_id=0, hidden_act="gelu_new"), (12, 20), inputs=UNTYPED),
        Case(
            "pad_absent_last_position",
            make(pad_token_id=ABSENT, max_position_embeddings=25),
            (23, 4),
            inputs=UNTYPED,
        ),
        Case(
            "three_layers_relu", make(num_hidden_layers=3, hidden_act="relu"), (21, 2), "left", inputs=UNTYPED
        ),
        Case(
            "one_head_tanh",
            make(num_attention_heads=1, hidden_size=33, hidden_act="gelu_pytorch_tanh"),
            (10, 1),
            inputs=UNTYPED,
        ),
        Case(
            "large_eps_silu",
            make(layer_norm_eps=0.3, hidden_act="silu", vocab_size=97),
            (18, 3),
            inputs=UNTYPED,
        ),
        Case(
            "usual_eps",
            make(
                layer_norm_eps=1e-5,
                hidden_size=64,
                attention_probs_dropout_prob=0.1,
                hidden_dropout_prob=0.1,
                initializer_range=0.02,
                position_embedding_type="absolute",
                output_past=True,
                bos_token_id=0,
                eos_token_id=2,
                use_cache=True,
            ),
            inputs=UNTYPED,
            tags=("usual_eps",),
        ),
    ]


ROBERTA = _roberta_cases(roberta)
XLM_ROBERTA = _roberta_cases(xlm_roberta)[:6]

MPNET = [
    Case("plain", mpnet(), inputs=UNTYPED),
    Case("left_padding", mpnet(num_attention_heads=6), (26, 9, 5), "left", inputs=UNTYPED),
    Case("far", mpnet(max_position_embeddings=150, hidden_size=32), (147, 40), inputs=UNTYPED),
    Case("three_layers_relu", mpnet(num_hidden_layers=3, hidden_act="relu"), (21, 2), inputs=UNTYPED),
    Case(
        "one_head_new",
        mpnet(num_attention_heads=1, hidden_size=33, hidden_act="gelu_new"),
        (30, 1),
        "left",
        inputs=UNTYPED,
    ),
    Case(
        "large_eps_silu",
        mpnet(layer_norm_eps=0.3, hidden_act="silu", intermediate_size=61),
        (38, 3),
        inputs=UNTYPED,
    ),
    Case("last_position", mpnet(max_position_embeddings=25, vocab_size=97), (23, 22), inputs=UNTYPED),
    Case(
        "usual_eps",
        mpnet(layer_norm_eps=1e-5, hidden_size=64, attention_probs_dropout_prob=0.1, hidden_dropout_prob=0.1),
        inputs=UNTYPED,
        tags=("usual_eps",),
    ),
]

DISTILBERT = [
    Case("plain", distilbert(), inputs=UNTYPED),
    Case("left_padding", distilbert(n_heads=6), (16, 9, 5), "left", inputs=UNTYPED),
    Case("three_layers_relu", distilbert(n_layers=3, activation="relu", dim=40), (21, 2), inputs=UNTYPED),
    Case(
        "one_head_tanh",
        distilbert(n_heads=1, dim=33, activation="gelu_pytorch_tanh"),
        (10, 1),
        inputs=UNTYPED,
    ),
    Case(
        "silu_odd",
        distilbert(activation="silu", hidden_dim=61, vocab_size=97),
        (18, 3),
        "left",
        inputs=UNTYPED,
    ),
    Case("last_position", distilbert(max_position_embeddings=24, n_heads=2), (24, 23), inputs=UNTYPED),
    Case(
        "as_published",
        distilbert(
            sinusoidal_pos_embds=False,
            tie_weights_=True,
            dropout=0.1,
            attention_dropout=0.1,
            qa_dropout=0.1,
            seq_classif_dropout=0.2,
            initializer_range=0.02,
            pad_token_id=0,
            hidden_dim=128,
        ),
        inputs=UNTYPED,
    ),
]


def nomic_bert(**fields: Any) -> Config:
    base = {
        "model_type": "nomic_bert",
        "architectures": ["NomicBertModel"],
        "vocab_size": 101,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "type_vocab_size": 2,
        "layer_norm_eps": 0.05,
        "hidden_act": "silu",
        "rope_parameters": {"rope_theta": 1000.0, "rope_type": "default"},
    }
    return _without_absent({**base, **fields})


NOMIC_BERT = [
    Case("plain", nomic_bert(), inputs=TYPED),
    Case("left_padding", nomic_bert(rope_parameters=ABSENT), (16, 9, 5), "left", inputs=TYPED),
    Case(
        "theta", nomic_bert(rope_parameters={"rope_theta": 50.0}, num_hidden_layers=3), (33, 20), inputs=TYPED
    ),
    Case("one_type_gelu", nomic_bert(type_vocab_size=1, hidden_act="gelu"), (12, 11), "left", inputs=UNTYPED),
    Case("wide_heads", nomic_bert(head_dim=20, intermediate_size=61), (21, 2), inputs=TYPED),
    Case(
        "linear_relu",
        nomic_bert(hidden_act="relu", **new_rope(rope_type="linear", factor=2.5)),
        (18, 25),
        inputs=TYPED,
    ),
    Case(
        "large_eps_yarn",
        nomic_bert(layer_norm_eps=0.3, hidden_size=64, **new_rope(**YARN_LONG)),
        (30, 3),
        inputs=TYPED,
    ),
    Case(
        "usual_eps",
        nomic_bert(layer_norm_eps=1e-12, hidden_size=64, head_dim=16, attention_probs_dropout_prob=0.0),
        inputs=TYPED,
        tags=("usual_eps",),
    ),
]


def modernbert(**fields: Any) -> Config:
    base = {
        "model_type": "modernbert",
        "architectures": ["ModernBertModel"],
        "vocab_size": 101,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "norm_eps": 0.05,
        "hidden_activation": "gelu",
        "local_attention": 8,
        "global_attn_every_n_layers": 3,
        "global_rope_theta": 1000.0,
        "local_rope_theta": 100.0,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "cls_token_id": 0,
        "sep_token_id": 2,
    }
    return _without_absent({**base, **fields})


NEW_ROPES = {
    "full_attention": {"rope_type": "default", "rope_theta": 700.0},
    "sliding_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 50.0},
}
NO_OLD = {"global_rope_theta": ABSENT, "local_rope_theta": ABSENT, "global_attn_every_n_layers": ABSENT}

MODERNBERT = [
    Case("plain", modernbert(), (21, 13, 5), inputs=UNTYPED),
    Case("left_padding_odd_window", modernbert(local_attention=5), (26, 9, 5), "left", inputs=UNTYPED),
    Case("norm_bias", modernbert(norm_bias=True, num_attention_heads=6), (19, 4), inputs=UNTYPED),
    Case(
        "attention_bias",
        modernbert(attention_bias=True, global_attn_every_n_layers=2),
        (17, 22),
        inputs=UNTYPED,
    ),
    Case(
        "mlp_bias_tanh",
        modernbert(mlp_bias=True, hidden_activation="gelu_pytorch_tanh"),
        (18, 7),
        "left",
        inputs=UNTYPED,
    ),
    Case(
        "all_biases_relu",
        modernbert(mlp_bias=True, attention_bias=True, norm_bias=True, hidden_activation="relu"),
        (15, 24),
        inputs=UNTYPED,
    ),
    Case(
        "layer_types",
        modernbert(
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            num_hidden_layers=3,
            rope_parameters=NEW_ROPES,
            **NO_OLD,
        ),
        (27, 12),
        inputs=UNTYPED,
    ),
    Case(
        "all_global_silu",
        modernbert(
            global_attn_every_n_layers=1, num_hidden_layers=2, hidden_activation="silu", intermediate_size=61
        ),
        (20, 1),
        inputs=UNTYPED,
        idle=("local_rope_theta",),
    ),
    Case(
        "defaults_usual_eps",
        modernbert(
            norm_eps=1e-5,
            layer_norm_eps=1e-5,
            hidden_size=64,
            local_attention=ABSENT,
            attention_dropout=0.0,
            classifier_pooling="mean",
            reference_compile=False,
            **NO_OLD,
        ),
        (40, 33),
        inputs=UNTYPED,
        tags=("usual_eps",),
    ),
]

CASES: dict[str, list[Case]] = {
    "roberta": ROBERTA,
    "xlm-roberta": XLM_ROBERTA,
    "mpnet": MPNET,
    "distilbert": DISTILBERT,
    "nomic_bert": NOMIC_BERT,
    "modernbert": MODERNBERT,
}
