"""A pytest plugin that measures processor time: `pytest --cpu-times=FILE` writes a table by file
and by test.

Processor time, not wall time: on a machine that others use too, only the first can be compared. The
time of processes that a test starts and waits for counts as the test's own.
"""

import os
from collections import defaultdict
from pathlib import Path

import pytest

KEY = "cpu_seconds"


def cpu_seconds():
    """The processor time of this process and of the processes that it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class CpuTimes:
    """Measures each phase of each test, in workers too, and writes the table at the end."""

    def __init__(self, path):
        self.path = Path(path)
        self.tests = defaultdict(float)
        self.imports = []  # before a process's first test: start, imports, collection
        self._started = None
        self._first_test = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        # A phase's time includes the fixtures that it sets up: those shared by tests go to the
        # first.
        now = cpu_seconds()
        report.user_properties.append((KEY, now - self._started))
        self._started = now
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self):
        self._started = cpu_seconds()
        if self._first_test is None:
            self._first_test = self._started

    def pytest_runtest_logreport(self, report):
        # Every report repeats the phases before it: the last value is this phase's.
        values = [value for name, value in report.user_properties if name == KEY]
        if values:
            self.tests[report.nodeid] += values[-1]
        # A run that is cut short leaves what it measured.
        if report.when == "teardown" and len(self.tests) % 20 == 0:
            self.path.write_text(cpu_table(self.tests, self.imports))

    def pytest_sessionfinish(self, session):
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput[KEY] = self._first_test or cpu_seconds()

    def pytest_testnodedown(self, node):
        self.imports.append(getattr(node, "workeroutput", {}).get(KEY, 0.0))

    def pytest_terminal_summary(self, terminalreporter):
        if hasattr(terminalreporter.config, "workerinput"):
            return
        imports = self.imports or [self._first_test or 0.0]
        self.path.write_text(cpu_table(self.tests, imports))
        total = sum(self.tests.values()) + sum(imports)
        terminalreporter.write_line(f"processor time: {total:.1f} s; by test in {self.path}")


def cpu_table(tests, imports):
    """The time of imports, of each file and of each test, in seconds, the largest first."""
    files, counts = defaultdict(float), defaultdict(int)
    for nodeid, seconds in tests.items():
        files[nodeid.split("::")[0]] += seconds
        counts[nodeid.split("::")[0]] += 1
    lines = [f"{sum(imports):8.1f}  imports of {len(imports)} processes"]
    by_time = sorted(files, key=files.get, reverse=True)
    lines += [f"{files[file]:8.1f}  {file} ({counts[file]} tests)" for file in by_time]
    lines.append("")
    by_time = sorted(tests, key=tests.get, reverse=True)
    lines += [f"{tests[nodeid]:8.2f}  {nodeid}" for nodeid in by_time if tests[nodeid] >= 0.01]
    return "\n".join(lines) + "\n"
