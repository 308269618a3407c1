def curve_loss(student, teacher, lengths, *, velocity, curvature):
    raise NotImplementedError
