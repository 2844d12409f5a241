"""An alarm is raised once, and sent by one process at a time."""

import os
import threading
from datetime import timedelta

import pytest

from feedback_store import Alarm, FeedbackStore, InvalidFeedbackError
from feedback_store.records import ALARM_KINDS

LONG = Alarm("length", "replies are long", 2.0, 1.5)
HOUR, NOW = timedelta(hours=1), timedelta(0)


def test_an_alarm_is_raised_once_for_what_it_is_about(store):
    assert store.raise_alarm(LONG, key="1")
    assert not store.raise_alarm(LONG, key="1")
    assert store.raise_alarm(LONG, key="2")
    assert store.raise_alarm(Alarm("rolled_back", "went back"), key="1")
    first, *_ = found = store.alarms()
    assert [alarm.kind for alarm in found] == ["length", "length", "rolled_back"]
    assert (first.text, first.value, first.limit, first.tries) == ("replies are long", 2.0, 1.5, 0)
    assert store.alarm_counts() == dict.fromkeys(ALARM_KINDS, 0) | {"length": 2, "rolled_back": 1}


def test_a_kind_that_nobody_knows_is_refused(store):
    with pytest.raises(InvalidFeedbackError, match="the kind of an alarm cannot be 'rain'"):
        store.raise_alarm(Alarm("rain", "it rains"), key="1")
    assert store.alarms() == []


def test_the_latest_alarms_come_oldest_first_and_after_a_time_or_another_one(store):
    for number in range(4):
        store.raise_alarm(LONG, key=str(number))
    ids = [alarm.id for alarm in store.alarms()]
    assert [a.id for a in store.alarms(limit=2)] == ids[2:]
    assert [a.id for a in store.alarms(after=ids[0])] == ids[1:]
    assert store.alarms(since="9999") == []


def test_a_cycles_alarm_names_it(store):
    cycle = store.start_cycle({}, pid=os.getpid())
    store.raise_alarm(LONG, key="x", cycle_id=cycle.id)
    assert store.alarms()[0].cycle_id == cycle.id


def test_what_was_taken_is_put_off_and_what_was_sent_never_comes_again(store):
    store.raise_alarm(LONG, key="1")
    assert store.last_tried_alarm() == 0
    taken = store.take_alarm([HOUR])
    assert (taken.text, taken.tries) == (LONG.text, 1)
    assert store.last_tried_alarm() == taken.id
    assert store.take_alarm([HOUR]) is None, "it is put off for an hour"
    store.raise_alarm(LONG, key="2")
    again = store.take_alarm([NOW])
    store.note_sent(again.id)
    assert store.take_alarm([NOW]) is None


def test_there_are_as_many_tries_as_waits_and_one_more(store):
    store.raise_alarm(LONG, key="1")
    tries = []
    while taken := store.take_alarm([NOW, NOW]):
        tries.append(taken.tries)
    assert tries == [1, 2, 3]


def test_eight_threads_of_two_stores_take_each_alarm_once(store, path):
    for number in range(40):
        store.raise_alarm(LONG, key=str(number))
    taken = []

    def take(of):
        while alarm := of.take_alarm([HOUR]):
            taken.append(alarm.id)

    with FeedbackStore(path) as other:
        threads = [threading.Thread(target=take, args=(of,)) for of in (store, other) * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(taken) == [alarm.id for alarm in store.alarms()]


def test_the_watched_cycle_never_goes_back(store):
    assert store.watched_cycle() == 0
    for number, expected in ((3, 3), (2, 3), (4, 4)):
        store.note_watched(number)
        assert store.watched_cycle() == expected
