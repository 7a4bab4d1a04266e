"""Two phases: whatever the order in which workers finish, a timing item runs last and beside nothing."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from refute.scheduler import TimingLast


class Worker:
    """What a worker of xdist does with its queue: it begins an item once it knows what comes next."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.shutting_down = False
        self.queue: list[int] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        assert not self.shutting_down
        self.queue += indices

    def shutdown(self) -> None:
        self.shutting_down = True

    @property
    def running(self) -> int | None:
        known = len(self.queue) > 1 or (self.queue and self.shutting_down)
        return self.queue[0] if known else None


def scheduler(items: list[str], workers: list[Worker]) -> TimingLast:
    options = {"maxschedchunk": None, "tx": ["popen"] * len(workers)}
    config = SimpleNamespace(getoption=options.get, getvalue=options.get)
    made = TimingLast(config, None, lambda nodeid: nodeid.startswith("timed"))
    for worker in workers:
        made.add_node(worker)
        made.add_node_collection(worker, items)
    made.schedule()
    return made


@given(
    items=st.lists(st.sampled_from(["timed", "other"]), max_size=12),
    count=st.integers(1, 4),
    crashes=st.sets(st.integers(0, 11), max_size=2),
    data=st.data(),
)
def test_every_item_runs_once_and_a_timing_item_beside_nothing(items, count, crashes, data) -> None:
    names = [f"{kind}-{index}" for index, kind in enumerate(items)]
    workers = [Worker(f"gw{index}") for index in range(count)]
    made = scheduler(names, workers)
    done: list[str] = []
    lost: list[str] = []
    while made.has_pending:
        busy = [worker for worker in workers if worker.running is not None]
        assert busy, "nobody goes on, and items are left"
        running = [names[worker.running] for worker in busy]
        if any(name.startswith("timed") for name in running):
            assert len(running) == 1
            assert all(name in done or name in lost for name in names if name.startswith("other"))
        worker = data.draw(st.sampled_from(busy))
        if worker.running in crashes and names[worker.running] not in lost:
            workers.remove(worker)
            lost.append(made.remove_node(worker))
            fresh = Worker(f"gw{len(lost) + count}")  # xdist starts another one
            workers.append(fresh)
            made.add_node(fresh)
            made.add_node_collection(fresh, names)
            made.schedule()
        else:
            finished = worker.queue.pop(0)
            done.append(names[finished])
            made.mark_test_complete(worker, finished)
    assert made.tests_finished
    assert sorted(done + lost) == sorted(names)
