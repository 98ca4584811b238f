"""Engine: which records a bulk statement touches.

    `session.execute(update(Contact)…)` ──► **their primary keys** ──► `capture` notes them

The unit of work does not see such statements. For `update` and `delete` the keys are selected
before; for `insert` they are returned by the statement itself. More keys than are changed in the
end do no harm: `capture` compares before with after.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.engine import cursor

from .reader import PrimaryKey, Reader
from .record_types import RecordType


def is_bulk(execution: orm.ORMExecuteState) -> bool:
    """Whether it is an ORM-enabled `insert`, `update` or `delete` of a mapped class."""
    if execution.is_select or not execution.is_orm_statement:
        return False
    statement = execution.statement
    return isinstance(statement, sa.Insert | sa.Update | sa.Delete) and (
        "parententity" in statement.table._annotations
    )


def names_its_keys(execution: orm.ORMExecuteState, record_type: RecordType) -> bool:
    """Whether it is an `update` by primary key, for a list of parameters."""
    many = execution.parameters
    # An empty list is one, too: SQLAlchemy executes nothing then.
    return isinstance(many, list) and all(
        name in one for one in many[:1] for name in record_type.key_names
    )


def selected_keys(
    execution: orm.ORMExecuteState, record_type: RecordType, reader: Reader
) -> Iterator[PrimaryKey]:
    """The keys of the records that an `update` or `delete` will touch."""
    statement: Any = execution.statement
    many = execution.parameters if isinstance(execution.parameters, list) else None
    names = record_type.key_names
    if many is not None and names_its_keys(execution, record_type):
        for parameters in many:
            yield tuple(parameters[name] for name in names)
        return
    entity = statement.entity_description["entity"]
    keys = sa.select(*[getattr(entity, name) for name in names])
    if statement.whereclause is not None:
        keys = keys.where(statement.whereclause)
    keys = keys.options(*statement._with_options)
    for one in many if many is not None else [execution.parameters]:
        for row in reader.session.execute(keys, one or {}):
            yield tuple(row)


def changes_keys(execution: orm.ORMExecuteState, record_type: RecordType) -> bool:
    """Whether it is an `update` that sets a column of the primary key."""
    statement: Any = execution.statement
    parameters = execution.parameters if isinstance(execution.parameters, dict) else {}
    given = [*(getattr(statement, "_values", None) or ()), *parameters]
    given += [name for name, _ in getattr(statement, "_ordered_values", None) or ()]
    names = {getattr(name, "key", name) for name in given}
    columns = {column.key for column in record_type.mapper.primary_key}
    return not names.isdisjoint(columns.union(record_type.key_names))


def can_repeat(record_type: RecordType, reader: Reader) -> bool:
    """Whether others can commit between a look and a statement, and savepoints take it back."""
    connection = reader.connection_for(record_type.mapper)
    autocommit = getattr(connection.connection, "autocommit", False)
    return record_type.looks_back and connection.dialect.name != "sqlite" and not autocommit


class savepoint:
    """A savepoint that the session's own know nothing of.

    An error leaves the transaction as it would be without: broken until the app rolls it back.
    """

    def __init__(self, record_type: RecordType, reader: Reader) -> None:
        # The host's own must be there before it: releasing this one takes all later ones with it.
        self._execute = reader.enlist(record_type.mapper).exec_driver_sql

    def __enter__(self) -> savepoint:
        self._execute("SAVEPOINT resthooks_bulk")
        return self

    def undo(self) -> None:
        self._execute("ROLLBACK TO SAVEPOINT resthooks_bulk")

    def __exit__(self, error: object, *details: object) -> None:
        if error is None:
            self._execute("RELEASE SAVEPOINT resthooks_bulk")


def overwrites(statement: Any) -> bool:
    """Whether an `insert` can change rows that exist: `ON CONFLICT DO UPDATE`, `OR REPLACE`."""
    clause = statement._post_values_clause
    harmless = clause is None or clause.__visit_name__ == "on_conflict_do_nothing"
    return bool(statement._prefixes) or not harmless


def rehearse(
    execution: orm.ORMExecuteState, record_type: RecordType, reader: Reader
) -> list[PrimaryKey]:
    """The keys of the rows that an `insert` would write, in a savepoint that is rolled back.

    Nothing else tells which rows an upsert will meet: its conflict target may be any constraint,
    its values any expression. The price: sequences skip numbers, and Python-side defaults are asked
    twice.
    """
    statement: Any = execution.statement
    connection = reader.connection_for(record_type.mapper)
    savepoint = connection.begin_nested()
    try:
        result = reader.session.execute(
            statement.returning(*record_type.key_attributes), execution.parameters
        )
        width = len(record_type.key_attributes)
        return [tuple(row)[-width:] for row in result]
    finally:
        savepoint.rollback()
        reader.session.expunge_all()


def execute(
    execution: orm.ORMExecuteState, record_type: RecordType
) -> tuple[list[PrimaryKey], sa.Result[Any]]:
    """Execute the statement: the keys of the rows that it wrote, and the result for the caller.

    The statement is made to return the keys; what the caller sees of it is as if it were not.
    """
    statement: Any = execution.statement
    if _returns_everything(statement):
        everything = execution.invoke_statement().freeze()
        names = [column.name for column in record_type.mapper.primary_key]
        return [tuple(row) for row in everything().columns(*names)], everything()
    entity = statement.entity_description["entity"]
    keys = [getattr(entity, name) for name in record_type.key_names]
    result: Any = execution.invoke_statement(statement.returning(*keys))
    if statement._returning:
        frozen = result.freeze()
        width = len(result.keys()) - len(keys)
        return [tuple(row)[width:] for row in frozen.data], frozen().columns(*range(width))
    rows = result.all()
    written = [tuple(row) for row in rows]
    if execution.is_insert and execution.parameters:
        # What the ORM gives for parameters that were passed beside the statement.
        return written, cursor.null_dml_result()
    return written, _WithoutRows(result.raw.context, rows)


def _returns_everything(statement: Any) -> bool:
    """`RETURNING *` has no place for more."""
    return len(statement._returning) == 1 and str(statement._returning[0]) == "*"


class _WithoutRows(sa.CursorResult[Any]):
    """What a statement without RETURNING gives, though it was executed with it."""

    def __init__(self, context: Any, rows: list[Any]) -> None:
        super().__init__(context, cursor._NO_CURSOR_DML, None)
        self._rows = rows

    @property
    def rowcount(self) -> int:
        return len(self._rows)

    @property
    def inserted_primary_key_rows(self) -> Any:
        return self._rows
