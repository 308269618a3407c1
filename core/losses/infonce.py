def infonce_loss(student, teacher, *, temperature, points):
    raise NotImplementedError
