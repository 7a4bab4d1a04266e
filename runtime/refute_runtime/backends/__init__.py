"""What runs the operations of the model: `base.py` names them, `array.py` specifies them."""
