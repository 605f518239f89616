"""Named streams: `from rlxflow.stream import StoreStreamStage, id`."""

from rlxflow.stages import stream as _stream
from rlxflow.stages.stream import DualStreamStage, LoadStreamStage, StoreStreamStage, dual_stream_stage

id = _stream.stream_id
__all__ = ["DualStreamStage", "LoadStreamStage", "StoreStreamStage", "dual_stream_stage", "id"]
