"""Every option and its default; no default exists anywhere else.

Other configs start from here and override a few lines. The command line overrides any of them:
`mig-jax train --config=configs/quickstart.py --config.rollout.group_size=16`.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    c = ConfigDict()
    c.seed = 0  # seed of random parameters, data order and sampling
    c.steps = 100  # rollouts (train), or batches of SFT targets (sft)
    c.response_format = "mig"  # mig, r1, qwen3, llama_steps, tunix, plain; or your own, as "my_format.py:FORMAT"

    c.model = m = ConfigDict()
    m.path = ""  # folder in Hugging Face format, .gguf file, workdir of a run, or hub name; "": random parameters
    m.tokenizer = ""  # same forms; "": the tokenizer of model.path; "characters": one token per byte, needs no files
    m.eos = ""  # further tokens that end a completion, such as "<|im_end|>", separated by spaces; "": the model's own
    m.compute_dtype = "float32"  # of activations: float32 or bfloat16; norms, softmax and log-probs are always float32
    m.param_dtype = "float32"  # of parameters; float32 keeps master parameters beside bfloat16 activations
    m.save_dtype = ""  # of the saved model: float32, bfloat16 or float16; "": as the parameters
    m.attention = ""  # kernel of training and prefill: xla, splash (TPU), cudnn (GPU, bfloat16); "": by device
    m.remat = ""  # what the backward pass recomputes: none, layer or matmuls (models/remat.py); "": by device
    m.init = ConfigDict()  # shape of the model, when model.path is ""
    m.init.layers = 4
    m.init.width = 128
    m.init.heads = 4
    m.init.kv_heads = 2
    m.init.head_size = 32
    m.init.mlp_width = 384
    m.init.rope_theta = 10_000.0
    m.init.norm_eps = 1e-6
    m.init.tied_head = True
    m.init.qkv_bias = True
    m.init.qk_norm = False
    m.init.rope_sections = ()  # frequencies for time, height and width, with a vision tower: (4, 6, 6)
    m.init.experts = e = ConfigDict()  # mixture of experts like Qwen3-MoE's, in place of the MLP
    e.count = 0  # experts of a layer; 0: an MLP
    e.per_token = 2  # experts that are computed for a token
    e.width = 64
    m.init.vision = v = ConfigDict()  # shape of a vision tower like Qwen2.5-VL's
    v.layers = 0  # 0: no vision tower
    v.width = 64
    v.heads = 4
    v.mlp_width = 128
    v.patch_size = 14  # pixels
    v.merge_size = 2  # patches per side that become one token
    v.window_size = 112  # pixels per side of the windows that most layers attend within
    v.full_layers = (1,)  # layers that attend to the whole image

    m.vision = i = ConfigDict()  # vision-language models
    i.freeze = True  # do not train the vision tower; image features are then computed once per rollout
    i.max_patches = (
        1024  # of all images of a prompt, counting window padding; problems with more are rejected and counted
    )
    i.min_pixels = 56 * 56  # smaller images are scaled up
    i.max_pixels = 448 * 448  # larger images are scaled down

    m.lora = a = ConfigDict()  # adapters; the rest of the decoder is frozen, and is the KL reference
    a.rank = 0  # 0: no adapters, all parameters are trained
    a.alpha = 16.0  # adapters are scaled by alpha / rank
    a.modules = ("query", "key", "value", "out", "gate", "up", "down")
    a.save = "merged"  # merged: an ordinary model; adapter: a PEFT folder

    c.data = d = ConfigDict(convert_dict=False)
    d.train = "chain:terms=7"  # sources: gsm8k, jsonl:FILE, reasoning_gym:TASK, "3 gsm8k + 1 math" (data/sources.py)
    d.eval = ""  # same names; "": data.train, whose test split or held-out problems are used
    d.train_size = 8192  # number of problems to generate; other sources keep their size
    d.eval_size = 256
    d.eval_seed = 0  # of the held-out problems, so that runs with other seeds are comparable
    d.dir = "~/mig_jax_data"  # folder of the benchmarks, one folder each: the published files and the built data
    d.variants = ""  # file with further variants of the answers, written by `mig-jax variants`
    d.read_ahead = 2  # batches whose prompts and images are prepared while the accelerator works
    d.bad_rows = "refuse"  # rows of your files that cannot be used: refuse, or skip and count
    d.choice_answers = ""  # how answers name a choice: label, text, index (from 0) or number (from 1); "": by the rows
    d.columns = n = ConfigDict()  # columns of your files: "a", "a.b[0]" inside it, "{a} {b}" to join, "=text" for all
    n.id = "id"
    n.question = "question"  # a text, or chat messages
    n.answer = "answer"  # the reference answer
    n.response = "response"  # score: of the transcripts; sft: ready-made ones to learn
    n.kind = "kind"  # number, expression, choice, …; without the column choice if there are choices, else expression
    n.choices = "choices"
    n.steps = "steps"
    n.images = "images"
    n.level = "level"
    n.subject = "subject"
    n.source = "source"
    d.system_prompt = "format"  # "format": instructions of the response format; "": none; a text; or a .txt or .md file
    d.user_template = "{question}"  # user turn; may also have {choices} and {instructions}; {{ and }} are braces
    d.user_templates = {}  # the same by source, as {"gsm8k": "…"}; user_template is for all others
    d.template_args = ""  # arguments of the chat template, as "enable_thinking=False,date_string=26 Jul 2024"
    d.template_date = "2025-01-01"  # the date that chat templates print as today's
    d.max_prompt_tokens = 256  # problems with longer prompts are rejected and counted
    d.max_answer_tokens = 16  # problems with longer reference answers are rejected and counted

    c.rollout = r = ConfigDict()
    r.questions = 32  # Q, prompts per step
    r.group_size = 8  # G, samples per prompt
    r.max_new_tokens = 256  # limit of a response, in tokens; longer ones are truncated
    r.temperature = 1.0  # of sampling
    r.gather_params = True  # replicate parameters over mesh.fsdp while sampling, instead of gathering them per token
    r.max_resamples = 0  # more rollouts per step to replace prompts whose samples all earn the same outcome (DAPO)
    r.kv_cache_chunks = 1  # chunks in which the KV cache grows: short completions use less memory; one compile each

    c.reward = w = ConfigDict(convert_dict=False)
    # Weights of the outcome rewards: accuracy, format, and penalties from 0 to -1: overlong (DAPO), repetition,
    # language, steps (rollout/outcomes.py); or your own, as "my_file.py:shortness" (docs/own_parts.md).
    w.outcomes = {"accuracy": 1.0, "format": 1.0}
    w.outcome_args = g = ConfigDict()  # parameters of the outcome rewards
    g.overlong_buffer = 0  # overlong: falls from 0 to -1 over these last tokens of the length limit
    g.repetition_ngram = 20  # repetition: tokens that count as repeated where they occurred before, in this order
    g.min_steps = 1  # steps: fewer are penalized
    g.max_steps = 16  # steps: more are penalized
    g.deadline_s = 10.0  # your own: seconds for one response; later: no part in its group
    g.workers = 2  # your own: processes that each of them runs in
    w.reading = "strict"  # how answers are read: strict (the one answer block), or lenient (wherever the answer is)
    w.overlong = "keep"  # truncated responses: keep, or mask (no policy-gradient loss)
    w.credit = "watermark"  # process reward: watermark | final | delta_sum | position_weighted | segment_progress
    w.credit_args = a = ConfigDict()  # parameters of the credit rule; prices are in its unit
    a.threshold = 0.0  # watermark: a rise of the mark by less earns nothing and leaves the mark; in nats
    a.drawdown = 0.0  # watermark: share of the fall from the mark to the last likelihood that is taken back, 0 to 1
    a.step_price = 0.0  # subtracted for every step
    a.excess_step_price = 0.0  # subtracted for every step beyond the mean number of steps of the group
    a.gate = "all"  # responses that earn process reward: all, correct, or kept (last likelihood near the mark)
    a.gate_tolerance = 0.0  # kept: the last likelihood is at most this far below the mark; in nats
    w.credit_level = "step"  # step: the gain-to-go of each step; trajectory: one advantage per response (the paper)
    w.step_discount = 1.0  # step: a gain counts this much less for each step before it, 0 to 1
    w.process_mask = "closing"  # tokens of the process stream: closing (reasoning and its closing tag), or think
    w.advantage = "group_mean"  # baseline of both rewards: group_mean, leave_one_out, or no_baseline
    w.outcome_scale = "group_std"  # what the centered outcome reward is divided by: group_std, batch_std, or none
    w.outcome_eps = 1e-6  # added to that divisor
    w.process_scale = "group_std"  # the same for the process reward
    w.process_eps = e = ConfigDict()  # added to that divisor, by the rule's unit; process rewards never tie exactly
    e.nats = 0.01
    e.probability = 0.001  # segment_progress
    w.max_steps = 16  # K, probes of a response; of more steps, K are probed, evenly spread, the last one among them
    w.max_variants = 4  # A, variants of the reference answer that are probed
    w.terminator = "event"  # what is scored after the answer: event (any ending, one token), or tag (closing tag)
    w.over_tokens = "mean_logprob"  # likelihood of a variant from its tokens: mean_logprob, mean_prob, or sum_logprob
    w.over_spellings = "max"  # likelihood of the answer from its variants: max, or logsumexp

    c.loss = s = ConfigDict()
    s.alpha = 1.0  # weight of the process stream; GRPO is alpha = gamma = 0
    s.beta = 1.0  # weight of the outcome stream
    s.gamma = 0.1  # weight of SFT on correct and well-formed responses
    s.kl_coef = 0.0  # weight of the KL to the policy at the start; 0 keeps no second copy of it
    s.router_balance = 0.0  # mixture of experts: weight of the balance of the routers, which is 1 where they are even
    s.kl_reference_on_host = False  # keep that copy in host memory, on the devices only for its log-probs
    s.policy_loss = "clip"  # clip (PPO), dual_clip, or cispo
    s.ratio = "token"  # of the policies: token, or sequence (GSPO; use clip bounds near 3e-4)
    s.clip_low = 0.2
    s.clip_high = 0.28
    s.dual_clip = 3.0  # dual_clip: bound of the ratio where the advantage is negative, more than 1
    s.aggregate = "tokens"  # mean over all tokens (tokens), over responses (responses), or sum / constant (constant)
    s.old_logprobs = "sampled"  # old log-probs: those of the sampler, or recomputed by the trainer's forward pass
    s.importance_cap = 2.0  # recomputed: cap of the weights trainer / sampler of each token; 0: no weights

    c.optimizer = o = ConfigDict()
    o.peak_lr = 1e-6  # learning rate after the warm-up
    o.warmup_steps = 0  # updates over which the learning rate rises from 0
    o.decay = "constant"  # constant | cosine (to 0 over all updates)
    o.weight_decay = 0.0
    o.clip_norm = 1.0
    o.b1 = 0.9
    o.b2 = 0.99
    o.state_dtype = ""  # of Adam's moments: float32 or bfloat16; "": as the parameters
    o.updates_per_rollout = 1  # passes over a rollout; with more than one update, clipping begins to matter
    o.minibatches = 1  # parts that a rollout is split into, with an update for each
    o.microbatches = 0  # parts that an update is split into, which leave it the same; 0: a number chosen for the device
    o.logprob_tokens = 512  # tokens of a device whose logits are in memory at once, whatever the number of rows
    o.max_skipped = 5  # end the run after this many updates in a row with non-finite loss or gradient

    c.mesh = ConfigDict()  # devices = data × fsdp × tensor
    c.mesh.data = -1  # -1: all remaining devices
    c.mesh.fsdp = 1  # parts of parameters and optimizer state, gathered layer by layer; rows are split, too
    c.mesh.tensor = 1  # parts of heads and of the MLP's width, for models that are too large for fsdp alone

    c.sft = f = ConfigDict()
    f.batch_size = 128  # SFT targets per step
    f.steps = 0  # train: steps of SFT before the first rollout, in workdir/sft (`mig-jax sft` uses steps instead)
    f.peak_lr = 1e-5  # of those steps, decaying to 0 after optimizer.warmup_steps (`mig-jax sft`: optimizer.peak_lr)
    f.data = ""  # train: source of those steps; "": data.train (`mig-jax sft`: data.train)
    f.data_size = 0  # number of problems to generate for it; 0: data.train_size

    c.verifier = ConfigDict()
    c.verifier.workers = 2  # processes that grade answers
    c.verifier.deadline_s = 5.0  # seconds of wall clock per answer; later: wrong, if the reference alone can be graded

    c.eval = e = ConfigDict()
    e.at_start = True  # evaluate before the first step
    e.at_end = True  # evaluate after the last step
    e.every = 0  # steps between evaluations; 0: only at the start and the end
    e.samples = 1  # samples per held-out problem, besides the greedy one
    e.benchmarks = ""  # eval: sources, separated by commas; "": data.eval
    e.problems = 0  # problems per source and evaluation, drawn with data.eval_seed; 0: all
    e.scored = 16  # eval: responses per source whose steps are scored, for the page; 0: none
    e.batch_size = 256  # rows that are sampled together

    c.checkpoint = k = ConfigDict()
    k.every = 50  # steps between checkpoints
    k.keep = 2  # newest checkpoints to keep
    k.keep_best = 0  # checkpoints with the highest eval/sampled to keep besides, of those that were evaluated

    c.log = g = ConfigDict()
    g.every = 1  # steps between rows of metrics
    g.transcripts_every = 20  # steps between files of transcripts
    g.transcripts = 16  # responses per file
    g.writers = ("tensorboard",)  # besides metrics.jsonl: tensorboard, wandb, or your own, as "my_file.py:Writer"
    g.wandb_project = "mig_jax"  # wandb: the project; WANDB_MODE=offline needs no network
    g.profile_steps = ()  # steps whose jax.profiler traces are written to workdir/profile, from 1
    return c.lock()  # a misspelt key is an error from here on
