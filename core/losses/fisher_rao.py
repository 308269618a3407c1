def fisher_rao_loss(student, teacher, *, temperature):
    raise NotImplementedError
