def mse_loss(student, teacher):
    raise NotImplementedError
