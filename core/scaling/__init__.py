"""What a job of any size takes, predicted from parts that were measured on this machine. No torch here."""
