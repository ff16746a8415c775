"""Before the first step: the teacher's contexts and answers, the teacher gate, encoded rows."""
