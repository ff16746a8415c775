"""Teachers: models that give target logits."""

from typing import TYPE_CHECKING

from lit_unlearn.utils.lazy import on_first_use

if TYPE_CHECKING:
    from lit_unlearn.teachers.adapter_off import AdapterOffTeacher
    from lit_unlearn.teachers.contrast import ContrastTeacher
    from lit_unlearn.teachers.frozen import FrozenTeacher
    from lit_unlearn.teachers.moving_average import EMATeacher
    from lit_unlearn.teachers.smoothed import SmoothedTeacher
    from lit_unlearn.teachers.teacher import Teacher

__all__ = ["AdapterOffTeacher", "ContrastTeacher", "EMATeacher", "FrozenTeacher"]
__all__ += ["SmoothedTeacher", "Teacher"]

__getattr__ = on_first_use(
    __name__,
    {
        "AdapterOffTeacher": "adapter_off",
        "ContrastTeacher": "contrast",
        "EMATeacher": "moving_average",
        "FrozenTeacher": "frozen",
        "SmoothedTeacher": "smoothed",
        "Teacher": "teacher",
    },
)
