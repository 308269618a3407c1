"""The distillation engine: models, data, losses, training, evaluation, storage and jobs. No Streamlit."""
