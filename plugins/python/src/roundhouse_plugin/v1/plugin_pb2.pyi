from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Event(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVENT_UNSPECIFIED: _ClassVar[Event]
    EVENT_REQUEST: _ClassVar[Event]
    EVENT_PROMPT: _ClassVar[Event]
    EVENT_LOGITS: _ClassVar[Event]
    EVENT_SAMPLE: _ClassVar[Event]
    EVENT_TOKEN: _ClassVar[Event]
    EVENT_ROUTING: _ClassVar[Event]
    EVENT_FINISH: _ClassVar[Event]
    EVENT_HIDDEN: _ClassVar[Event]
    EVENT_ROUTE: _ClassVar[Event]

class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PHASE_UNSPECIFIED: _ClassVar[Phase]
    PHASE_PROMPT: _ClassVar[Phase]
    PHASE_DECODE: _ClassVar[Phase]

class Source(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SOURCE_UNSPECIFIED: _ClassVar[Source]
    SOURCE_MODEL: _ClassVar[Source]
    SOURCE_SEQUENCE: _ClassVar[Source]

class EditKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EDIT_KIND_UNSPECIFIED: _ClassVar[EditKind]
    EDIT_KIND_BIAS: _ClassVar[EditKind]
    EDIT_KIND_BAN: _ClassVar[EditKind]
    EDIT_KIND_ONLY: _ClassVar[EditKind]
    EDIT_KIND_SCALE: _ClassVar[EditKind]
    EDIT_KIND_ADD: _ClassVar[EditKind]

class Level(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LEVEL_UNSPECIFIED: _ClassVar[Level]
    LEVEL_DEBUG: _ClassVar[Level]
    LEVEL_INFO: _ClassVar[Level]
    LEVEL_WARN: _ClassVar[Level]
    LEVEL_ERROR: _ClassVar[Level]
EVENT_UNSPECIFIED: Event
EVENT_REQUEST: Event
EVENT_PROMPT: Event
EVENT_LOGITS: Event
EVENT_SAMPLE: Event
EVENT_TOKEN: Event
EVENT_ROUTING: Event
EVENT_FINISH: Event
EVENT_HIDDEN: Event
EVENT_ROUTE: Event
PHASE_UNSPECIFIED: Phase
PHASE_PROMPT: Phase
PHASE_DECODE: Phase
SOURCE_UNSPECIFIED: Source
SOURCE_MODEL: Source
SOURCE_SEQUENCE: Source
EDIT_KIND_UNSPECIFIED: EditKind
EDIT_KIND_BIAS: EditKind
EDIT_KIND_BAN: EditKind
EDIT_KIND_ONLY: EditKind
EDIT_KIND_SCALE: EditKind
EDIT_KIND_ADD: EditKind
LEVEL_UNSPECIFIED: Level
LEVEL_DEBUG: Level
LEVEL_INFO: Level
LEVEL_WARN: Level
LEVEL_ERROR: Level

class DescribeRequest(_message.Message):
    __slots__ = ("host_version", "api")
    HOST_VERSION_FIELD_NUMBER: _ClassVar[int]
    API_FIELD_NUMBER: _ClassVar[int]
    host_version: str
    api: int
    def __init__(self, host_version: _Optional[str] = ..., api: _Optional[int] = ...) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("api", "name", "version", "description", "params_json", "spec")
    API_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    PARAMS_JSON_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    api: int
    name: str
    version: str
    description: str
    params_json: str
    spec: Spec
    def __init__(self, api: _Optional[int] = ..., name: _Optional[str] = ..., version: _Optional[str] = ..., description: _Optional[str] = ..., params_json: _Optional[str] = ..., spec: _Optional[_Union[Spec, _Mapping]] = ...) -> None: ...

class Spec(_message.Message):
    __slots__ = ("events", "priority", "lag", "budget_ms", "capture_all", "hidden_layers", "hidden_write", "route_layers", "hold", "observer", "riding")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    LAG_FIELD_NUMBER: _ClassVar[int]
    BUDGET_MS_FIELD_NUMBER: _ClassVar[int]
    CAPTURE_ALL_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_LAYERS_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_WRITE_FIELD_NUMBER: _ClassVar[int]
    ROUTE_LAYERS_FIELD_NUMBER: _ClassVar[int]
    HOLD_FIELD_NUMBER: _ClassVar[int]
    OBSERVER_FIELD_NUMBER: _ClassVar[int]
    RIDING_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedScalarFieldContainer[Event]
    priority: int
    lag: int
    budget_ms: float
    capture_all: bool
    hidden_layers: _containers.RepeatedScalarFieldContainer[int]
    hidden_write: bool
    route_layers: _containers.RepeatedScalarFieldContainer[int]
    hold: int
    observer: bool
    riding: Riding
    def __init__(self, events: _Optional[_Iterable[_Union[Event, str]]] = ..., priority: _Optional[int] = ..., lag: _Optional[int] = ..., budget_ms: _Optional[float] = ..., capture_all: bool = ..., hidden_layers: _Optional[_Iterable[int]] = ..., hidden_write: bool = ..., route_layers: _Optional[_Iterable[int]] = ..., hold: _Optional[int] = ..., observer: bool = ..., riding: _Optional[_Union[Riding, _Mapping]] = ...) -> None: ...

class Riding(_message.Message):
    __slots__ = ("top", "entropy", "full", "model_top", "model_full")
    TOP_FIELD_NUMBER: _ClassVar[int]
    ENTROPY_FIELD_NUMBER: _ClassVar[int]
    FULL_FIELD_NUMBER: _ClassVar[int]
    MODEL_TOP_FIELD_NUMBER: _ClassVar[int]
    MODEL_FULL_FIELD_NUMBER: _ClassVar[int]
    top: int
    entropy: bool
    full: bool
    model_top: int
    model_full: bool
    def __init__(self, top: _Optional[int] = ..., entropy: bool = ..., full: bool = ..., model_top: _Optional[int] = ..., model_full: bool = ...) -> None: ...

class RewriteRequest(_message.Message):
    __slots__ = ("body_json", "params_json")
    BODY_JSON_FIELD_NUMBER: _ClassVar[int]
    PARAMS_JSON_FIELD_NUMBER: _ClassVar[int]
    body_json: str
    params_json: str
    def __init__(self, body_json: _Optional[str] = ..., params_json: _Optional[str] = ...) -> None: ...

class RewriteResponse(_message.Message):
    __slots__ = ("body_json", "fault", "notices")
    BODY_JSON_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    body_json: str
    fault: Fault
    notices: _containers.RepeatedCompositeFieldContainer[Notice]
    def __init__(self, body_json: _Optional[str] = ..., fault: _Optional[_Union[Fault, _Mapping]] = ..., notices: _Optional[_Iterable[_Union[Notice, _Mapping]]] = ...) -> None: ...

class SequenceRequest(_message.Message):
    __slots__ = ("begin", "step", "read_result")
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    READ_RESULT_FIELD_NUMBER: _ClassVar[int]
    begin: Begin
    step: Step
    read_result: ReadResult
    def __init__(self, begin: _Optional[_Union[Begin, _Mapping]] = ..., step: _Optional[_Union[Step, _Mapping]] = ..., read_result: _Optional[_Union[ReadResult, _Mapping]] = ...) -> None: ...

class SequenceResponse(_message.Message):
    __slots__ = ("read", "reply")
    READ_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    read: Read
    reply: Reply
    def __init__(self, read: _Optional[_Union[Read, _Mapping]] = ..., reply: _Optional[_Union[Reply, _Mapping]] = ...) -> None: ...

class Begin(_message.Message):
    __slots__ = ("model", "request", "params_json", "seed", "budget_ms")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    PARAMS_JSON_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    BUDGET_MS_FIELD_NUMBER: _ClassVar[int]
    model: Model
    request: Request
    params_json: str
    seed: int
    budget_ms: float
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ..., request: _Optional[_Union[Request, _Mapping]] = ..., params_json: _Optional[str] = ..., seed: _Optional[int] = ..., budget_ms: _Optional[float] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "layers", "experts", "top_k", "max_k", "hidden", "tokens", "eos", "tokenizer")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    EXPERTS_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    MAX_K_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    EOS_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FIELD_NUMBER: _ClassVar[int]
    name: str
    layers: int
    experts: int
    top_k: int
    max_k: int
    hidden: int
    tokens: int
    eos: _containers.RepeatedScalarFieldContainer[int]
    tokenizer: bool
    def __init__(self, name: _Optional[str] = ..., layers: _Optional[int] = ..., experts: _Optional[int] = ..., top_k: _Optional[int] = ..., max_k: _Optional[int] = ..., hidden: _Optional[int] = ..., tokens: _Optional[int] = ..., eos: _Optional[_Iterable[int]] = ..., tokenizer: bool = ...) -> None: ...

class Request(_message.Message):
    __slots__ = ("id", "max_tokens", "choice", "choices", "body_json")
    ID_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    BODY_JSON_FIELD_NUMBER: _ClassVar[int]
    id: str
    max_tokens: int
    choice: int
    choices: int
    body_json: str
    def __init__(self, id: _Optional[str] = ..., max_tokens: _Optional[int] = ..., choice: _Optional[int] = ..., choices: _Optional[int] = ..., body_json: _Optional[str] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("id", "event", "position", "attempt", "phase", "budget_ms", "steering", "rewound_to", "lost", "sequences", "next_position", "prompt", "logits", "candidates", "token", "routing", "hidden", "router", "finish")
    ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    BUDGET_MS_FIELD_NUMBER: _ClassVar[int]
    STEERING_FIELD_NUMBER: _ClassVar[int]
    REWOUND_TO_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    NEXT_POSITION_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    LOGITS_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ROUTING_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_FIELD_NUMBER: _ClassVar[int]
    ROUTER_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    id: int
    event: Event
    position: int
    attempt: int
    phase: Phase
    budget_ms: float
    steering: Steering
    rewound_to: int
    lost: int
    sequences: int
    next_position: int
    prompt: Prompt
    logits: Logits
    candidates: Candidates
    token: Token
    routing: Routing
    hidden: Hidden
    router: Router
    finish: Finish
    def __init__(self, id: _Optional[int] = ..., event: _Optional[_Union[Event, str]] = ..., position: _Optional[int] = ..., attempt: _Optional[int] = ..., phase: _Optional[_Union[Phase, str]] = ..., budget_ms: _Optional[float] = ..., steering: _Optional[_Union[Steering, _Mapping]] = ..., rewound_to: _Optional[int] = ..., lost: _Optional[int] = ..., sequences: _Optional[int] = ..., next_position: _Optional[int] = ..., prompt: _Optional[_Union[Prompt, _Mapping]] = ..., logits: _Optional[_Union[Logits, _Mapping]] = ..., candidates: _Optional[_Union[Candidates, _Mapping]] = ..., token: _Optional[_Union[Token, _Mapping]] = ..., routing: _Optional[_Union[Routing, _Mapping]] = ..., hidden: _Optional[_Union[Hidden, _Mapping]] = ..., router: _Optional[_Union[Router, _Mapping]] = ..., finish: _Optional[_Union[Finish, _Mapping]] = ...) -> None: ...

class Prompt(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...

class Logits(_message.Message):
    __slots__ = ("top", "entropy", "full", "model_top", "model_full")
    TOP_FIELD_NUMBER: _ClassVar[int]
    ENTROPY_FIELD_NUMBER: _ClassVar[int]
    FULL_FIELD_NUMBER: _ClassVar[int]
    MODEL_TOP_FIELD_NUMBER: _ClassVar[int]
    MODEL_FULL_FIELD_NUMBER: _ClassVar[int]
    top: Candidates
    entropy: float
    full: bytes
    model_top: Candidates
    model_full: bytes
    def __init__(self, top: _Optional[_Union[Candidates, _Mapping]] = ..., entropy: _Optional[float] = ..., full: _Optional[bytes] = ..., model_top: _Optional[_Union[Candidates, _Mapping]] = ..., model_full: _Optional[bytes] = ...) -> None: ...

class Candidates(_message.Message):
    __slots__ = ("ids", "logits", "logprobs")
    IDS_FIELD_NUMBER: _ClassVar[int]
    LOGITS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    logits: bytes
    logprobs: bytes
    def __init__(self, ids: _Optional[_Iterable[int]] = ..., logits: _Optional[bytes] = ..., logprobs: _Optional[bytes] = ...) -> None: ...

class Token(_message.Message):
    __slots__ = ("id", "text", "logprob", "forced")
    ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    FORCED_FIELD_NUMBER: _ClassVar[int]
    id: int
    text: str
    logprob: float
    forced: bool
    def __init__(self, id: _Optional[int] = ..., text: _Optional[str] = ..., logprob: _Optional[float] = ..., forced: bool = ...) -> None: ...

class Routing(_message.Message):
    __slots__ = ("layers", "top_k", "ids", "weights")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    layers: int
    top_k: int
    ids: bytes
    weights: bytes
    def __init__(self, layers: _Optional[int] = ..., top_k: _Optional[int] = ..., ids: _Optional[bytes] = ..., weights: _Optional[bytes] = ...) -> None: ...

class Hidden(_message.Message):
    __slots__ = ("layer", "values", "within")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    WITHIN_FIELD_NUMBER: _ClassVar[int]
    layer: int
    values: bytes
    within: bool
    def __init__(self, layer: _Optional[int] = ..., values: _Optional[bytes] = ..., within: bool = ...) -> None: ...

class Router(_message.Message):
    __slots__ = ("layer", "logits")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    LOGITS_FIELD_NUMBER: _ClassVar[int]
    layer: int
    logits: bytes
    def __init__(self, layer: _Optional[int] = ..., logits: _Optional[bytes] = ...) -> None: ...

class Finish(_message.Message):
    __slots__ = ("reason", "prompt_tokens", "completion_tokens")
    REASON_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    prompt_tokens: int
    completion_tokens: int
    def __init__(self, reason: _Optional[str] = ..., prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ...) -> None: ...

class Read(_message.Message):
    __slots__ = ("top", "logprobs", "entropy", "full", "draw", "lens", "encode", "decode", "vocabulary", "vector")
    TOP_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    ENTROPY_FIELD_NUMBER: _ClassVar[int]
    FULL_FIELD_NUMBER: _ClassVar[int]
    DRAW_FIELD_NUMBER: _ClassVar[int]
    LENS_FIELD_NUMBER: _ClassVar[int]
    ENCODE_FIELD_NUMBER: _ClassVar[int]
    DECODE_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    top: Top
    logprobs: Logprobs
    entropy: Entropy
    full: Full
    draw: Draw
    lens: Lens
    encode: Encode
    decode: Decode
    vocabulary: Vocabulary
    vector: SteeringVector
    def __init__(self, top: _Optional[_Union[Top, _Mapping]] = ..., logprobs: _Optional[_Union[Logprobs, _Mapping]] = ..., entropy: _Optional[_Union[Entropy, _Mapping]] = ..., full: _Optional[_Union[Full, _Mapping]] = ..., draw: _Optional[_Union[Draw, _Mapping]] = ..., lens: _Optional[_Union[Lens, _Mapping]] = ..., encode: _Optional[_Union[Encode, _Mapping]] = ..., decode: _Optional[_Union[Decode, _Mapping]] = ..., vocabulary: _Optional[_Union[Vocabulary, _Mapping]] = ..., vector: _Optional[_Union[SteeringVector, _Mapping]] = ...) -> None: ...

class Top(_message.Message):
    __slots__ = ("k", "source", "sequence")
    K_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    k: int
    source: Source
    sequence: int
    def __init__(self, k: _Optional[int] = ..., source: _Optional[_Union[Source, str]] = ..., sequence: _Optional[int] = ...) -> None: ...

class Logprobs(_message.Message):
    __slots__ = ("ids", "source", "sequence")
    IDS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    source: Source
    sequence: int
    def __init__(self, ids: _Optional[_Iterable[int]] = ..., source: _Optional[_Union[Source, str]] = ..., sequence: _Optional[int] = ...) -> None: ...

class Entropy(_message.Message):
    __slots__ = ("source", "sequence")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    source: Source
    sequence: int
    def __init__(self, source: _Optional[_Union[Source, str]] = ..., sequence: _Optional[int] = ...) -> None: ...

class Full(_message.Message):
    __slots__ = ("source", "sequence")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    source: Source
    sequence: int
    def __init__(self, source: _Optional[_Union[Source, str]] = ..., sequence: _Optional[int] = ...) -> None: ...

class Draw(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Lens(_message.Message):
    __slots__ = ("k",)
    K_FIELD_NUMBER: _ClassVar[int]
    k: int
    def __init__(self, k: _Optional[int] = ...) -> None: ...

class Encode(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class Decode(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...

class Vocabulary(_message.Message):
    __slots__ = ("first", "count")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    first: int
    count: int
    def __init__(self, first: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class SteeringVector(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ReadResult(_message.Message):
    __slots__ = ("fault", "candidates", "floats", "ids", "text", "texts")
    FAULT_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    FLOATS_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    fault: Fault
    candidates: Candidates
    floats: bytes
    ids: _containers.RepeatedScalarFieldContainer[int]
    text: str
    texts: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, fault: _Optional[_Union[Fault, _Mapping]] = ..., candidates: _Optional[_Union[Candidates, _Mapping]] = ..., floats: _Optional[bytes] = ..., ids: _Optional[_Iterable[int]] = ..., text: _Optional[str] = ..., texts: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Reply(_message.Message):
    __slots__ = ("step", "fault", "notices", "steering", "spec", "sequences", "prompt", "edits", "settings", "chosen", "stop", "inject", "rewind", "write")
    STEP_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    STEERING_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    EDITS_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    INJECT_FIELD_NUMBER: _ClassVar[int]
    REWIND_FIELD_NUMBER: _ClassVar[int]
    WRITE_FIELD_NUMBER: _ClassVar[int]
    step: int
    fault: Fault
    notices: _containers.RepeatedCompositeFieldContainer[Notice]
    steering: Steering
    spec: Spec
    sequences: _containers.RepeatedCompositeFieldContainer[TokenIDs]
    prompt: TokenIDs
    edits: _containers.RepeatedCompositeFieldContainer[Edit]
    settings: Settings
    chosen: int
    stop: str
    inject: _containers.RepeatedScalarFieldContainer[int]
    rewind: Rewind
    write: bytes
    def __init__(self, step: _Optional[int] = ..., fault: _Optional[_Union[Fault, _Mapping]] = ..., notices: _Optional[_Iterable[_Union[Notice, _Mapping]]] = ..., steering: _Optional[_Union[Steering, _Mapping]] = ..., spec: _Optional[_Union[Spec, _Mapping]] = ..., sequences: _Optional[_Iterable[_Union[TokenIDs, _Mapping]]] = ..., prompt: _Optional[_Union[TokenIDs, _Mapping]] = ..., edits: _Optional[_Iterable[_Union[Edit, _Mapping]]] = ..., settings: _Optional[_Union[Settings, _Mapping]] = ..., chosen: _Optional[int] = ..., stop: _Optional[str] = ..., inject: _Optional[_Iterable[int]] = ..., rewind: _Optional[_Union[Rewind, _Mapping]] = ..., write: _Optional[bytes] = ...) -> None: ...

class TokenIDs(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...

class Edit(_message.Message):
    __slots__ = ("kind", "ids", "value", "sequence")
    KIND_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    kind: EditKind
    ids: _containers.RepeatedScalarFieldContainer[int]
    value: float
    sequence: int
    def __init__(self, kind: _Optional[_Union[EditKind, str]] = ..., ids: _Optional[_Iterable[int]] = ..., value: _Optional[float] = ..., sequence: _Optional[int] = ...) -> None: ...

class Settings(_message.Message):
    __slots__ = ("temperature", "top_k", "top_p", "min_p", "typical")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    TYPICAL_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_k: float
    top_p: float
    min_p: float
    typical: float
    def __init__(self, temperature: _Optional[float] = ..., top_k: _Optional[float] = ..., top_p: _Optional[float] = ..., min_p: _Optional[float] = ..., typical: _Optional[float] = ...) -> None: ...

class Rewind(_message.Message):
    __slots__ = ("position", "same_attempt")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    SAME_ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    position: int
    same_attempt: bool
    def __init__(self, position: _Optional[int] = ..., same_attempt: bool = ...) -> None: ...

class Steering(_message.Message):
    __slots__ = ("layers", "vectors", "decode_only")
    class LayersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: LayerSteering
        def __init__(self, key: _Optional[int] = ..., value: _Optional[_Union[LayerSteering, _Mapping]] = ...) -> None: ...
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    DECODE_ONLY_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.MessageMap[int, LayerSteering]
    vectors: _containers.RepeatedCompositeFieldContainer[Vector]
    decode_only: bool
    def __init__(self, layers: _Optional[_Mapping[int, LayerSteering]] = ..., vectors: _Optional[_Iterable[_Union[Vector, _Mapping]]] = ..., decode_only: bool = ...) -> None: ...

class LayerSteering(_message.Message):
    __slots__ = ("bias", "scale", "ban", "force", "gate", "top_k")
    class BiasEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: float
        def __init__(self, key: _Optional[int] = ..., value: _Optional[float] = ...) -> None: ...
    class ScaleEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: float
        def __init__(self, key: _Optional[int] = ..., value: _Optional[float] = ...) -> None: ...
    BIAS_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    BAN_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    GATE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    bias: _containers.ScalarMap[int, float]
    scale: _containers.ScalarMap[int, float]
    ban: _containers.RepeatedScalarFieldContainer[int]
    force: _containers.RepeatedScalarFieldContainer[int]
    gate: float
    top_k: int
    def __init__(self, bias: _Optional[_Mapping[int, float]] = ..., scale: _Optional[_Mapping[int, float]] = ..., ban: _Optional[_Iterable[int]] = ..., force: _Optional[_Iterable[int]] = ..., gate: _Optional[float] = ..., top_k: _Optional[int] = ...) -> None: ...

class Vector(_message.Message):
    __slots__ = ("name", "values", "layer", "scale")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    name: str
    values: bytes
    layer: int
    scale: float
    def __init__(self, name: _Optional[str] = ..., values: _Optional[bytes] = ..., layer: _Optional[int] = ..., scale: _Optional[float] = ...) -> None: ...

class Notice(_message.Message):
    __slots__ = ("name", "number", "text", "json", "log")
    NAME_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    name: str
    number: float
    text: str
    json: str
    log: str
    def __init__(self, name: _Optional[str] = ..., number: _Optional[float] = ..., text: _Optional[str] = ..., json: _Optional[str] = ..., log: _Optional[str] = ...) -> None: ...

class Fault(_message.Message):
    __slots__ = ("kind", "message", "line")
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    message: str
    line: str
    def __init__(self, kind: _Optional[str] = ..., message: _Optional[str] = ..., line: _Optional[str] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("log", "metric", "event")
    LOG_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    log: Log
    metric: Metric
    event: CustomEvent
    def __init__(self, log: _Optional[_Union[Log, _Mapping]] = ..., metric: _Optional[_Union[Metric, _Mapping]] = ..., event: _Optional[_Union[CustomEvent, _Mapping]] = ...) -> None: ...

class Log(_message.Message):
    __slots__ = ("level", "message")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    level: Level
    message: str
    def __init__(self, level: _Optional[_Union[Level, str]] = ..., message: _Optional[str] = ...) -> None: ...

class Metric(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...

class CustomEvent(_message.Message):
    __slots__ = ("name", "json")
    NAME_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    name: str
    json: str
    def __init__(self, name: _Optional[str] = ..., json: _Optional[str] = ...) -> None: ...
