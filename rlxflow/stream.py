"""Named streams: `from rlxflow.stream import StoreStreamStage, id`."""

from rlxflow.stages.stream import (
    DualStreamStage as DualStreamStage,
    LoadStreamStage as LoadStreamStage,
    StoreStreamStage as StoreStreamStage,
    dual_stream_stage as dual_stream_stage,
    stream_id,
)

id = stream_id
