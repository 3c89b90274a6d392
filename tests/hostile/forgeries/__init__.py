"""The table: what a hostile producer writes, kind by kind and form by form, and how each must end.

A forgery writes Redis keys for one job id, in one transaction, so that no worker sees half of it. It ends as
the text beside it says: 'finished' for what is an honest job in fact; 'dropped' where no record of that id
can carry an end (the id leaves its lane); 'stands' where the record claims an end of its own, and nobody
takes it; 'waits' in a lane that no worker serves; and otherwise failed, with the line that begins so.
"""

from __future__ import annotations

from tests.hostile.forgeries.calls import CALLS
from tests.hostile.forgeries.form import Form
from tests.hostile.forgeries.records import RECORDS
from tests.hostile.forgeries.specs import SPECS

TABLE: dict[str, dict[str, Form]] = CALLS | SPECS | RECORDS
