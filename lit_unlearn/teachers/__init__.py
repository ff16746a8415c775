"""Teachers: models that target logits come from."""

from lit_unlearn.teachers.adapter_off import AdapterOffTeacher
from lit_unlearn.teachers.contrast import ContrastTeacher
from lit_unlearn.teachers.frozen import FrozenTeacher
from lit_unlearn.teachers.moving_average import EMATeacher
from lit_unlearn.teachers.teacher import Teacher

__all__ = ["AdapterOffTeacher", "ContrastTeacher", "EMATeacher", "FrozenTeacher", "Teacher"]
