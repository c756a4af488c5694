"""The protobuf messages of a GraphDef, defined here under a package name that is not TensorFlow's.

Field numbers are those of TensorFlow's public ``tensorflow/core/framework/*.proto``. The messages have a descriptor pool to
themselves, so that they never meet TensorFlow's in one process. Maps are written as repeated entries: the same bytes and the
same text format, and the order of the file is kept.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from graphsplit.formats.graphdef.ops import op_table
from graphsplit.graph.index import Shape

if TYPE_CHECKING:
    from google.protobuf.descriptor_pool import DescriptorPool

__all__ = ["Message", "dtype_number", "message", "read_shape"]

#: A message, or the class of one. Its fields are defined when it is first used, so that no type checker knows them.
Message: TypeAlias = Any

_PACKAGE = "graphsplit.graphdef"

# Fields of which a message holds one: of several the last counts, and `b: false` differs from no field at all.
_ONE_OF = {
    "AttrValue": {"list", "s", "i", "f", "b", "type", "shape", "tensor", "placeholder", "func"},
    "FullTypeDef": {"s", "i"},
}

_TEXT_NAME = {"float32": "FLOAT", "float64": "DOUBLE", "float16": "HALF"}

_FULL_TYPES = """
UNSET 0, VAR 1, ANY 2, PRODUCT 3, NAMED 4, FOR_EACH 20, CALLABLE 100, TENSOR 1000, ARRAY 1001, OPTIONAL 1002, LITERAL 1003,
ENCODED 1004, SHAPE_TENSOR 1005, BOOL 200, UINT8 201, UINT16 202, UINT32 203, UINT64 204, INT8 205, INT16 206, INT32 207,
INT64 208, HALF 209, FLOAT 210, DOUBLE 211, BFLOAT16 215, COMPLEX64 212, COMPLEX128 213, STRING 214, DATASET 10102,
RAGGED 10103, ITERATOR 10104, MUTEX_LOCK 10202, LEGACY_VARIANT 10203
"""

# name number type; a capital letter starts a message, '*' means repeated, 'enum' is DataType, 'full_type' FullTypeId.
_MESSAGES = """
GraphDef: node 1 *NodeDef, versions 4 VersionDef, version 3 int32, library 2 FunctionDefLibrary, debug_info 5 GraphDebugInfo
GraphDebugInfo: files 1 *string, frames_by_id 4 *FrameEntry, traces_by_id 6 *TraceByIdEntry, traces 2 *TraceEntry, name_to_trace_id 5 *TraceIdEntry
FileLineCol: file_index 1 int32, line 2 int32, col 3 int32, func 4 string, code 5 string
StackTrace: file_line_cols 1 *FileLineCol, frame_id 2 *fixed64
FrameEntry: key 1 fixed64, value 2 FileLineCol
TraceByIdEntry: key 1 fixed64, value 2 StackTrace
TraceEntry: key 1 string, value 2 StackTrace
TraceIdEntry: key 1 string, value 2 fixed64
VersionDef: producer 1 int32, min_consumer 2 int32, bad_consumers 3 *int32
NodeDef: name 1 string, op 2 string, input 3 *string, device 4 string, attr 5 *AttrEntry, experimental_debug_info 6 ExperimentalDebugInfo, experimental_type 7 FullTypeDef
ExperimentalDebugInfo: original_node_names 1 *string, original_func_names 2 *string
FullTypeDef: type_id 1 full_type, args 2 *FullTypeDef, s 3 string, i 4 int64
AttrEntry: key 1 string, value 2 AttrValue
AttrValue: list 1 ListValue, s 2 bytes, i 3 int64, f 4 float, b 5 bool, type 6 enum, shape 7 TensorShapeProto, tensor 8 TensorProto, placeholder 9 string, func 10 NameAttrList
ListValue: s 2 *bytes, i 3 *int64, f 4 *float, b 5 *bool, type 6 *enum, shape 7 *TensorShapeProto, tensor 8 *TensorProto, func 9 *NameAttrList
NameAttrList: name 1 string, attr 2 *AttrEntry
TensorShapeProto: dim 2 *Dim, unknown_rank 3 bool
Dim: size 1 int64, name 2 string
TensorProto: dtype 1 enum, tensor_shape 2 TensorShapeProto, version_number 3 int32, tensor_content 4 bytes, half_val 13 *int32, float_val 5 *float, double_val 6 *double, int_val 7 *int32, string_val 8 *bytes, scomplex_val 9 *float, int64_val 10 *int64, bool_val 11 *bool, dcomplex_val 12 *double, resource_handle_val 14 *ResourceHandleProto, variant_val 15 *VariantTensorDataProto, uint32_val 16 *uint32, uint64_val 17 *uint64, float8_val 18 bytes
ResourceHandleProto: device 1 string, container 2 string, name 3 string, hash_code 4 uint64, maybe_type_name 5 string, dtypes_and_shapes 6 *DtypeAndShape
VariantTensorDataProto: type_name 1 string, metadata 2 bytes, tensors 3 *TensorProto
FunctionDefLibrary: function 1 *FunctionDef, gradient 2 *GradientDef, registered_gradients 3 *RegisteredGradient
GradientDef: function_name 1 string, gradient_func 2 string
RegisteredGradient: gradient_func 1 string, registered_op_type 2 string
FunctionDef: signature 1 OpDef, attr 5 *AttrEntry, arg_attr 7 *ArgAttrEntry, resource_arg_unique_id 8 *ResourceEntry, node_def 3 *NodeDef, ret 4 *StringEntry, control_ret 6 *StringEntry
ArgAttrEntry: key 1 uint32, value 2 ArgAttrs
ArgAttrs: attr 1 *AttrEntry
ResourceEntry: key 1 uint32, value 2 uint32
StringEntry: key 1 string, value 2 string
OpDef: name 1 string, input_arg 2 *ArgDef, output_arg 3 *ArgDef, control_output 20 *string, attr 4 *AttrDef, deprecation 8 OpDeprecation, summary 5 string, description 6 string, is_commutative 18 bool, is_aggregate 16 bool, is_stateful 17 bool, allows_uninitialized_input 19 bool, is_distributed_communication 21 bool
ArgDef: name 1 string, description 2 string, type 3 enum, type_attr 4 string, number_attr 5 string, type_list_attr 6 string, is_ref 16 bool, handle_data 7 *DtypeAndShape, experimental_full_type 17 FullTypeDef
DtypeAndShape: dtype 1 enum, shape 2 TensorShapeProto
AttrDef: name 1 string, type 2 string, default_value 3 AttrValue, description 4 string, has_minimum 5 bool, minimum 6 int64, allowed_values 7 AttrValue
OpDeprecation: version 1 int32, explanation 2 string
SavedModel: saved_model_schema_version 1 int64, meta_graphs 2 *MetaGraphDef
MetaGraphDef: meta_info_def 1 MetaInfo, graph_def 2 GraphDef, saver_def 3 SaverDef, signature_def 5 *SignatureEntry
MetaInfo: meta_graph_version 1 string, tags 4 *string
SaverDef: filename_tensor_name 1 string, save_tensor_name 2 string, restore_op_name 3 string
SignatureEntry: key 1 string, value 2 SignatureDef
SignatureDef: inputs 1 *TensorInfoEntry, outputs 2 *TensorInfoEntry, method_name 3 string
TensorInfoEntry: key 1 string, value 2 TensorInfo
TensorInfo: name 1 string, dtype 2 enum, tensor_shape 3 TensorShapeProto
"""  # noqa: E501


def dtype_number(name: str) -> int:
    """The DataType number of a dtype name. Raises KeyError for an unknown name."""
    return _numbers()[name]


@cache
def _numbers() -> dict[str, int]:
    return {v: k for k, v in op_table().dtypes.items()}


@cache
def _pool() -> DescriptorPool:
    from google.protobuf import descriptor_pb2, descriptor_pool  # 13 ms, which --help need not pay

    file = descriptor_pb2.FileDescriptorProto(name="graphsplit/graphdef.proto", package=_PACKAGE, syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto
    enum = file.enum_type.add(name="DataType")
    enum.value.add(name="DT_INVALID", number=0)
    for number, dtype in op_table().dtypes.items():
        text = _TEXT_NAME.get(dtype, dtype.upper())
        enum.value.add(name=f"DT_{text}", number=number)
        enum.value.add(name=f"DT_{text}_REF", number=number + 100)
    full = file.enum_type.add(name="FullTypeId")
    for entry in _FULL_TYPES.split(","):
        key, number_text = entry.split()
        full.value.add(name=f"TFT_{key}", number=int(number_text))
    for line in _MESSAGES.strip().splitlines():
        name, _, fields = line.partition(": ")
        out = file.message_type.add(name=name)
        if name in _ONE_OF:
            out.oneof_decl.add(name="one")
        for spec in fields.split(", "):
            key, number_text, kind = spec.split()
            member = out.field.add(name=key, number=int(number_text))
            member.label = field.LABEL_REPEATED if kind[0] == "*" else field.LABEL_OPTIONAL
            if key in _ONE_OF.get(name, ()):
                member.oneof_index = 0
            kind = kind.removeprefix("*")
            if kind in ("enum", "full_type"):
                member.type = field.TYPE_ENUM
                member.type_name = f".{_PACKAGE}.{'DataType' if kind == 'enum' else 'FullTypeId'}"
            elif kind[0].isupper():
                member.type, member.type_name = field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                member.type = getattr(field, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


@cache
def message(name: str) -> Message:
    """The message class of that name: ``message("AttrValue").FromString(data)``."""
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))


def read_shape(shape: Message) -> Shape | None:
    """A TensorShapeProto as a tuple, None for an unknown rank."""
    return None if shape.unknown_rank else tuple(d.size if d.size >= 0 else None for d in shape.dim)
