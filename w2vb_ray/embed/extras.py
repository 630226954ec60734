"""The source's own columns against those that a table already has."""

import pyarrow as pa

from w2vb_ray import schema
from w2vb_ray.errors import SinkError


def align_extras(inventory: pa.Table, stored: pa.Schema, sink_uri: str) -> pa.Table:
    """Give the source's own columns the names and types that the table has for them.

    Names are compared without case, as Delta Lake does: a table cannot hold both `text` and `Text`.

    Raises:
        SinkError: a column that the table holds as another type and that does not convert without loss.
    """
    spelling = {name.lower(): name for name in stored.names}
    extras = schema.extra_fields(inventory.schema).names
    renamed = [spelling.get(name.lower(), name) if name in extras else name for name in inventory.column_names]
    inventory = inventory.rename_columns(renamed)
    for field in schema.extra_fields(inventory.schema):
        if field.name not in stored.names or stored.field(field.name).type == field.type:
            continue
        wanted = stored.field(field.name).type
        try:
            column = inventory[field.name].cast(wanted)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as err:
            raise SinkError(
                f"the source's column {field.name!r} is {field.type}, but the utterances table under sink.uri "
                f"({sink_uri}) has it as {wanted} and it does not convert ({err}); rename it in the source, or give "
                "this run another sink.uri"
            ) from err
        inventory = inventory.set_column(inventory.column_names.index(field.name), pa.field(field.name, wanted), column)
    return inventory
