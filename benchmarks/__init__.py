"""Speed: every phase against torch and the machine's own limit, side by side in one run.

python -m benchmarks.run --suite=cpu --out=runs/cpu.json

run          the command
suites       what is measured on which machine: model, lengths, contenders
machine      what it is, and its own matmul and bandwidth peaks, measured in the same run
alternating  contenders in turn, medians and ratios
subjects     one random model for both frameworks, and its context
ours         the phases of tttjax
peers        the same in torch: transformers, and the loops that people write (torch_loops)
processes    whole processes: time to the first answer, loading
results      rows, JSON, the table, the plot
"""
