"""What a context needs: memory per device, ideal seconds, and the smallest slice that holds it.

sizes              the architectures of released models, by name
chips              TPUs and GPUs: memory, peaks, and the sizes that they come in
planned_work       what a strategy runs on a context, with exact FLOPs
roofline           seconds at the chips' peaks
abstract_programs  the phases' programs with abstract arguments
compiled           their memory, compiled ahead of time for a TPU without one
planning           a topology's plan, and the smallest topology that fits
plan_text          it as text
"""
