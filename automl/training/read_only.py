"""A study's storage that can be looked at and not changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial


class ReadOnlyError(PermissionError):
    """Something wanted to change a study that is only looked at."""


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise ReadOnlyError("a run's study is shown and not changed")


def _passed(name: str) -> Callable[..., Any]:
    def read(storage: ReadOnly, *given: Any, **named: Any) -> Any:
        return getattr(storage._storage, name)(*given, **named)

    return read


class ReadOnly(BaseStorage):
    """What another storage holds; every method that would change it raises ReadOnlyError.

    A method that Optuna adds is refused until it is named here: only those of `BaseStorage` are there.
    """

    def __init__(self, storage: BaseStorage) -> None:
        self._storage = storage

    create_new_study: Callable[..., int] = _refuse
    delete_study: Callable[..., None] = _refuse
    set_study_user_attr: Callable[..., None] = _refuse
    set_study_system_attr: Callable[..., None] = _refuse
    create_new_trial: Callable[..., int] = _refuse
    set_trial_param: Callable[..., None] = _refuse
    set_trial_state_values: Callable[..., bool] = _refuse
    set_trial_intermediate_value: Callable[..., None] = _refuse
    set_trial_user_attr: Callable[..., None] = _refuse
    set_trial_system_attr: Callable[..., None] = _refuse

    get_study_id_from_name: Callable[..., int] = _passed("get_study_id_from_name")
    get_study_name_from_id: Callable[..., str] = _passed("get_study_name_from_id")
    get_study_directions: Callable[..., list[StudyDirection]] = _passed("get_study_directions")
    get_study_user_attrs: Callable[..., dict[str, Any]] = _passed("get_study_user_attrs")
    get_study_system_attrs: Callable[..., dict[str, Any]] = _passed("get_study_system_attrs")
    get_all_studies: Callable[..., list[FrozenStudy]] = _passed("get_all_studies")
    get_trial_id_from_study_id_trial_number: Callable[..., int] = _passed("get_trial_id_from_study_id_trial_number")
    get_trial: Callable[..., FrozenTrial] = _passed("get_trial")
    get_all_trials: Callable[..., list[FrozenTrial]] = _passed("get_all_trials")
    get_n_trials: Callable[..., int] = _passed("get_n_trials")
    remove_session: Callable[..., None] = _passed("remove_session")
