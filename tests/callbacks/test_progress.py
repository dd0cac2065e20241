import io

from helpers import table_data, table_model
from rich.console import Console

import mtl_keras as mtl


def test_progress_prints_a_line_an_epoch_with_each_tasks_first_metric():
    x, y = table_data()
    out = io.StringIO()
    model = table_model()
    model.compile("sgd")
    bar = mtl.callbacks.Progress("table", Console(file=out, width=200))
    model.fit(x, y, validation_data=(x, y), epochs=2, verbose=0, callbacks=[bar])
    lines = [line for line in out.getvalue().splitlines() if line.startswith("epoch")]
    assert len(lines) == 2 and "epoch 2/2" in lines[1]
    assert "cost_r2" in lines[0] and "sold_auc" in lines[0] and "(val " in lines[0]
