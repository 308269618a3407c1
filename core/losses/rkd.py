def rkd_loss(student, teacher, *, distance, angle, points):
    raise NotImplementedError
