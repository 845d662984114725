"""Scenarios a person can read, run on real cores: commands, `---`, and what is to be seen.

Blocks are separated by blank lines; lines that begin with # are comments. REWRITE=1 in the
environment puts what was seen in the place of what was expected; review the difference.

    cluster 1 2 3 [learners 4] [empty 5]     begin anew
    elect N | campaign N | propose N TEXT | tick N [COUNT] | read N CONTEXT
    transfer N TARGET CLOCK | stepdown N CLOCK | ask N
    learners N A B.. | joint N A B.. | leave N   change the configuration as leader N
    turn N | sync N | deliver [A>B] [Kind] | drop [A>B] [Kind] | settle
    hold [A>B] [Kind] | unhold               keep messages on their way
    cut A B.. / C D..  | isolate N | heal
    crash N [SURVIVING BATCHES] | restart N | truncate N
    withdraw ASKER BY.. | grant ASKER BY..   support between stores
    show                                     every replica, one line
    messages                                 what is on its way
    trace                                    what has arrived since the last trace
"""

from collections.abc import Callable

from multiraft.ids import Index, ReplicaId, Timestamp
from multiraft.raft import membership
from multiraft.raft.messages import Configuration
from multiraft.raft.role import Role
from tests.support import raft_disk
from tests.support.raft_cluster import Cluster, describe


class Interpreter:
    """Runs the commands of one scenario; returns what each makes visible."""

    def __init__(self) -> None:
        self.cluster = Cluster(Configuration(()))
        self.commands: dict[str, Callable[[list[str]], list[str]]] = {
            name[3:]: getattr(self, name) for name in dir(self) if name.startswith("do_")
        }

    def run(self, line: str) -> list[str]:
        name, *words = line.split()
        return self.commands[name](words)

    # --- The group ---

    def do_cluster(self, words: list[str]) -> list[str]:
        kinds: dict[str, list[int]] = {"voters": [], "learners": [], "empty": []}
        kind = "voters"
        for word in words:
            if word in kinds:
                kind = word
            else:
                kinds[kind].append(int(word))
        configuration = Configuration(ids(kinds["voters"]), (), ids(kinds["learners"]))
        empty = {number: raft_disk.empty_disk() for number in kinds["empty"]}
        self.cluster = Cluster(configuration, empty)
        return []

    def do_elect(self, words: list[str]) -> list[str]:
        self.cluster.elect(int(words[0]))
        self.cluster.trace.clear()
        return []

    def do_campaign(self, words: list[str]) -> list[str]:
        started = self.cluster[int(words[0])].core.campaign()
        return [] if started else ["may not campaign"]

    def do_propose(self, words: list[str]) -> list[str]:
        core = self.cluster[int(words[0])].core
        index = core.propose(words[1].encode(), core.term)
        return [f"{words[1]} at {index}" if index else self._refused(core.refusal)]

    def do_tick(self, words: list[str]) -> list[str]:
        self.cluster.tick(int(words[0]), int(words[1]) if len(words) > 1 else 1)
        return []

    def do_read(self, words: list[str]) -> list[str]:
        started = self.cluster[int(words[0])].core.read_index(int(words[1]))
        return [] if started else ["cannot tell"]

    def do_transfer(self, words: list[str]) -> list[str]:
        number, target, clock = map(int, words)
        core = self.cluster[number].core
        began = core.transfer(ReplicaId(target), Timestamp(clock))
        return [] if began else ["no transfer"]

    def do_stepdown(self, words: list[str]) -> list[str]:
        self.cluster[int(words[0])].core.step_down(Timestamp(int(words[1])))
        return []

    def do_ask(self, words: list[str]) -> list[str]:
        self.cluster[int(words[0])].core.ask_still_leading()
        return []

    def do_learners(self, words: list[str]) -> list[str]:
        present = self.cluster[int(words[0])].core.configuration
        return self._change(words[0], Configuration(present.voters, (), ids(words[1:])))

    def do_joint(self, words: list[str]) -> list[str]:
        present = self.cluster[int(words[0])].core.configuration
        voters = ids(words[1:])
        learners = tuple(each for each in present.learners if each not in voters)
        return self._change(words[0], Configuration(voters, present.voters, learners))

    def do_leave(self, words: list[str]) -> list[str]:
        present = self.cluster[int(words[0])].core.configuration
        return self._change(words[0], membership.leaving(present))

    def _change(self, number: str, new: Configuration) -> list[str]:
        core = self.cluster[int(number)].core
        payload = raft_disk.pack_configuration(new)
        index = core.propose_configuration(payload, core.term, new)
        return [f"change at {index}" if index else self._refused(core.refusal)]

    def _refused(self, refusal: membership.Refusal | None) -> str:
        assert refusal is not None
        return f"refused: {refusal.value}"

    # --- Time, network, disks, support ---

    def do_turn(self, words: list[str]) -> list[str]:
        self.cluster[int(words[0])].turn()
        return []

    def do_sync(self, words: list[str]) -> list[str]:
        self.cluster[int(words[0])].sync()
        return []

    def do_deliver(self, words: list[str]) -> list[str]:
        self.cluster.deliver(" ".join(words))
        return []

    def do_drop(self, words: list[str]) -> list[str]:
        return [f"lost {describe(flight)}" for flight in self.cluster.take(" ".join(words))]

    def do_settle(self, words: list[str]) -> list[str]:
        self.cluster.settle()
        return []

    def do_hold(self, words: list[str]) -> list[str]:
        self.cluster.holding.append(" ".join(words))
        return []

    def do_unhold(self, words: list[str]) -> list[str]:
        self.cluster.holding.clear()
        return []

    def do_cut(self, words: list[str]) -> list[str]:
        sides = " ".join(words).split("/")
        self.cluster.cut(*[[int(word) for word in side.split()] for side in sides])
        return []

    def do_isolate(self, words: list[str]) -> list[str]:
        self.cluster.isolate(int(words[0]))
        return []

    def do_heal(self, words: list[str]) -> list[str]:
        self.cluster.heal()
        return []

    def do_crash(self, words: list[str]) -> list[str]:
        self.cluster[int(words[0])].crash(int(words[1]) if len(words) > 1 else 0)
        return []

    def do_restart(self, words: list[str]) -> list[str]:
        self.cluster[int(words[0])].restart()
        return []

    def do_truncate(self, words: list[str]) -> list[str]:
        node = self.cluster[int(words[0])]
        node.disk.truncate(Index(node.core.applied_index))
        node.disk.sync()
        return []

    def do_withdraw(self, words: list[str]) -> list[str]:
        asker, *supporters = map(int, words)
        self.cluster.withdraw(asker, *supporters)
        return []

    def do_grant(self, words: list[str]) -> list[str]:
        asker, *supporters = map(int, words)
        self.cluster.grant(asker, *supporters)
        return []

    # --- What is seen ---

    def do_show(self, words: list[str]) -> list[str]:
        return [self._line(number) for number in self.cluster.nodes]

    def _line(self, number: int) -> str:
        node = self.cluster[number]
        if not node.is_up:
            return f"{number} down"
        core = node.core
        terms = " ".join(
            str(core.log.term(Index(index)))
            for index in range(core.first_index, core.last_index + 1)
        )
        facts = [
            f"{number} {core.role.name.lower():13} term {core.term}",
            f"leader {core.leader or '-'}",
            f"log {core.first_index}: {terms or '-'}",
            f"commit {core.commit_index}",
            "bound" if core.role is Role.FOLLOWER and not self._waits(number) else "",
            f"lease {core.lease_until()}" if core.role is Role.LEADER else "",
            "ticking" if core.needs_tick else "",
        ]
        return " | ".join(fact for fact in facts if fact)

    def _waits(self, number: int) -> bool:
        core = self.cluster[number].core
        return core.needs_tick or number not in core.electorate

    def do_messages(self, words: list[str]) -> list[str]:
        return [describe(flight) for flight in self.cluster.flights]

    def do_trace(self, words: list[str]) -> list[str]:
        trace, self.cluster.trace = self.cluster.trace, []
        return trace


def ids(numbers: list[int] | list[str]) -> tuple[ReplicaId, ...]:
    return tuple(ReplicaId(int(number)) for number in numbers)


def rewrite(text: str) -> str:
    """Run a scenario and return it with what was seen."""
    interpreter = Interpreter()
    blocks = []
    for block in text.strip().split("\n\n"):
        told = block.split("\n---")[0].split("\n")
        seen: list[str] = []
        for line in told:
            if line and not line.startswith("#"):
                seen.extend(interpreter.run(line))
        expected = ["---", *seen] if seen else []
        blocks.append("\n".join([*told, *expected]))
    return "\n\n".join(blocks) + "\n"
