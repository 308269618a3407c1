def attention_transfer_loss(student, teacher, lengths):
    raise NotImplementedError
