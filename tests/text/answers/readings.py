"""Completions as models write them, and the answer that they give or do not give."""

from collections.abc import Iterator
from typing import NamedTuple

COLORS = ("red", "blue", "green", "black")
DIGITS = ("3", "4", "5", "6")


class Reading(NamedTuple):
    """A completion, the reference answer, the kind and choices of its question, and whether its answer is right."""

    completion: str
    reference: str
    kind: str
    choices: tuple[str, ...]
    expected: bool


def _readings(
    kind: str, reference: str, right: str = "", wrong: str = "", choices: tuple[str, ...] = ()
) -> Iterator[Reading]:
    """Yield the completions of two texts, one on each line; ⏎ stands for a line break."""
    for lines, expected in ((right, True), (wrong, False)):
        for line in lines.strip("\n").splitlines():
            yield Reading(line.replace("⏎", "\n"), reference, kind, choices, expected)


READINGS = (
    *_readings(
        "number",
        "42",
        right=r"""
The answer is 42 apples for 7 days.
The final answer is: 42.⏎⏎Step 3 was optional.
So the answer should be 42, not 41.
The answer to question 3 is 42.
The answer in whole apples is **42** of the 50.
The correct answer is therefore 42 (see step 2).
Answer = 42⏎(checked twice)
ANSWER → 42 in 3 steps
Ans: 42
The answer is: 6 * 7 = 42 apples in 2 baskets
The answer is $6 \times 7 = 42$.
The answer is x = 42 when y = 3.
The answer is 41. Wait, actually 42.
Answer: 41⏎Sorry, it should be 42.
Final Answer: The final answer is $42$. I hope it is correct.
{"reasoning": "6 times 7", "answer": 42}
{"final_answer": "42", "steps": 3}
6 * 7 is 42⏎#### 42
#### 42⏎⏎This took 3 steps.
Answer:⏎⏎42⏎⏎That is all, in 2 lines.
**Answer:** 42 apples, 3 more than Ann
La réponse est 42 pour 7 jours.
La respuesta es 42.
Die Antwort ist: 42
So she has **42** apples after 3 days.
Step 1: 6 and 7.⏎⏎Therefore, he sold **42 apples** in 2 months.
Hence $\boxed{42}$ in 2 steps.
\fbox{42} is what we get in 3 steps
$\boxed 7$ is wrong, $\boxed{42}$ is right
答案：42个，共3天
答案是42。（第2题）
答案为 42 元
最后的答案就是42
【答案】42⏎【解析】共3步
答：小明有42个苹果。
所以一共有42个苹果。（第3题）
因此，3天后小明有42个苹果。
最终结果：42
答案: 42，因为 6×7=42，共2步
正确答案为：⏎**42**⏎用时3分钟
So he gets 42 in 3 hours.
She picks 42 apples every 2 days.
That makes 42, as in step 2
There are 42 apples larger than 4 cm.
So she has 42 apples left after 5 days.
It is 42 (see equation 3)
There are forty-two apples.
The total is forty two.
That makes forty-two in all.
<answer>The answer is 42</answer>
<answer>She sold 42 clips in April and May.</answer>
<answer>42, because 6 * 7 = 42 and 7 * 7 = 49</answer>
<answer>So the total is \boxed{42} in 3 steps.</answer>
<answer>6 * 7 = 42 apples</answer>
<answer>答案是42个</answer>
<answer>一共有42个苹果</answer>
\boxed{\text{The answer is } 42}
\boxed{\text{She has 42 apples}}
<ANSWER>42</ANSWER>
<Answer>⏎42⏎</Answer> done in 3 steps
<final_answer>42</final_answer>
<think>⏎Maybe \boxed{41}? The answer is 41.⏎</think>⏎It is 42.
The answer is 41.</think>The answer is 42.
""",
        wrong=r"""
The answer is 41 or 42
<answer>41 or 42</answer>
The answer is 41, not 42
\boxed{41} and \boxed{42}
\boxed{42, 43}
The answer is 42. Wait, actually 43.
Step 42
<answer>40 + 2</answer>
答案是41，不是42
142
-42
4.2
<answer>The answer is 43, since 42 is too small</answer>
The answer is 4200 of it
""",
    ),
    *_readings(
        "number",
        "-3",
        right=r"""
The answer is −3.
So x = -3
It falls to - 3 degrees
Answer: -3°C
答案：－3
""",
    ),
    *_readings(
        "number",
        "5",
        right=r"""
x - 5
The difference is 12 - 7 = 5
""",
    ),
    *_readings(
        "number",
        "14916",
        right=r"""
The answer is 14{,}916.
The answer is $14{,}916$ in 2020.
The answer is 14 916
The answer is 14 916 people
The answer is 14\,916
So 14,\!916 people
is １４９１６
is １４，９１６。
\boxed{14{,}916}
\boxed{14\,916}
答案是14 916人
""",
    ),
    *_readings(
        "number",
        "1000000",
        right=r"""
The answer is 1 000 000
about 1 million
It is 10^6.
is $10^{6}$ bytes
so 1,000,000 it is
""",
    ),
    *_readings(
        "number",
        "2.5",
        right=r"""
is 2½ cups
The answer is 2 ½.
so 2 1/2 hours
$2\frac{1}{2}$
is 5/2
Answer: 5⁄2
２．５
2.50
""",
    ),
    *_readings(
        "number",
        "0.75",
        right=r"""
It is ¾.
The answer is ¾ of it
so 3/4 of them
\boxed{\frac34}
""",
    ),
    *_readings(
        "number",
        "1500",
        right=r"""
is 1.5 × 10^3
is $1.5 \times 10^{3}$
The answer is 1.5e3
is 1.5 thousand
is $1,500
""",
    ),
    *_readings(
        "number",
        "18",
        right=r"""
She makes $9 * 2 = $18 every day. The answer is $18 per day, or $126 a week.
**Answer:** $\$18$ per day
""",
    ),
    *_readings(
        "number",
        "5 kg",
        right=r"""
It weighs 5 kg.
So the answer is 5 kilograms.
答案：5千克
""",
        wrong=r"""
It weighs 5 pounds.
The answer is 5 g
答案：5克
""",
    ),
    *_readings(
        "number",
        "60%",
        right=r"""
The share is 60%.
the answer is 60 percent
so $60\%$ of 5
""",
    ),
    *_readings(
        "expression",
        r"\sqrt{5}",
        right=r"""
The answer is $\sqrt{5}$.
Therefore $x = \sqrt{5}$ for $n = 3$.
So the answer is \(\sqrt{5}\), with 5 under the root
Thus \[ \sqrt{5} \]
$\sqrt5$
sqrt(5)
The length is √5.
The answer is sqrt(5) for n = 2
**Final Answer:** $\sqrt{5}$ in 2 steps
**$\sqrt{5}$**
<answer>The answer is $\sqrt{5}$</answer>
<answer>So x = \sqrt{5}, because x^2 = 5</answer>
答案为 $\sqrt{5}$。
所以答案是 √5
$\sqrt{5} \approx 2.236$
The answer is $\sqrt{5} \approx 2.24$
\boxed{x = \sqrt{5}}
\boxed{\text{The answer is } \sqrt{5}}
""",
    ),
    *_readings(
        "expression",
        r"x \geq 5",
        right=r"""
Therefore $x \ge 5$ is the solution.
so x >= 5
We find that x ≥ 5.
The answer is $x\geqslant 5$.
""",
    ),
    *_readings(
        "expression",
        "x^2+1",
        right=r"""
The answer is $x^2+1$.
So f(x) = x^2 + 1
the answer is x^2 + 1 for all x
Thus, $f(x) = x^2 + 1$ for 3 values
x²+1
答案：$x^2+1$
**x^2 + 1**
""",
    ),
    *_readings(
        "expression",
        "(-6,10)",
        right=r"""
Final Answer: The final answer is $(-6, 10)$.
so the point is (-6, 10).
\((-6,10)\)
""",
    ),
    *_readings(
        "expression",
        "4",
        right=r"""
The answer is $\sqrt{16}$
$2^2$
[4]
The answer is [4].
The sum is $1 + 3 = 4$.
2 + 2 = 4
""",
    ),
    *_readings(
        "expression",
        r"\frac{3}{4}",
        right=r"""
**Answer:** $\frac{3}{4}$ of 8
so 3/4 of the 8
The probability is $\dfrac34$ in 2 draws
""",
    ),
    *_readings(
        "expression",
        r"2\pi",
        right=r"""
The answer is $2\pi$
so 2π
The answer is 2π cm
The area is $2\pi$ square units.
""",
    ),
    *_readings(
        "expression",
        "1, -2",
        right=r"""
\boxed{1} and \boxed{-2}
\boxed{1}, \boxed{-2}
$\boxed{1}$ and $\boxed{-2}$.
\(\boxed{-2}\), \(\boxed{1}\)
$\boxed{1}$ or $\boxed{-2}$
\boxed{1}和\boxed{-2}
The roots are \boxed{1}\boxed{-2}
The roots are $1$ and $-2$.
The roots are x = 1 or x = -2
so 1, -2
""",
    ),
    *_readings(
        "expression",
        "10",
        right=r"""
first \boxed{1}, then \boxed{2}, and in the end \boxed{10}
The answer is $10$, where $n=3$ and $k=2$.
""",
    ),
    *_readings(
        "expression",
        "5",
        right=r"""
$\boxed5$
$\boxed 5$
\fbox{5}
\boxed{5
the answer is \boxed{5
\boxed{5}\text{ cm}
""",
        wrong=r"""
The answer is $x+5$
The answer is $\sqrt{5}$
Therefore $x > 5$.
$2^5$
The answer is $(3, 5)$
\boxed{4}, \boxed{5}
2, 3, 5
print([0 for _ in [5]])
lambda: 5
__import__('os').getpid() or 5
The answer is $4$ or $5$
""",
    ),
    *_readings(
        "expression",
        r"5 \text{ kg}",
        right=r"""
It weighs 5 kg.
The answer is $5$ kg
\boxed{5\text{ kg}}
""",
    ),
    *_readings(
        "expression",
        r"\text{east}",
        right=r"""
The answer is **east**.
Answer: east
east
<answer>east</answer>
""",
    ),
    *_readings(
        "choice",
        "B",
        choices=COLORS,
        right=r"""
The answer is for sure B, it can't be A or D.
The answer is definitely (B).
So the answer must be B, since A is too small
B. It can't be A or C
B, because A is too small.
B is correct because A and C are too small.
Option B is right.
Therefore, option B is the one.
Hence B.
It's not A, so it is B
It could be A, but I choose B.
I would pick option B rather than C.
A is wrong. C is incorrect. So B it is: **B**
Answer: A⏎Wait, actually B.
The answer is A. No, it's B.
ANSWER: [B]⏎Hope this helps with A and C!
Final choice → B
The correct option is B. The others, (A) and (C), are wrong.
the best choice is b
ans: b
Answer: b)
Answer: 'B'
Answer: `B`
Answer: {B}
Answer: $\textbf{(B)}$ blue
Answer: \textbf{B}
{"answer": "B"}
{"choice": "B", "reason": "A is wrong"}
```json⏎{'answer': 'B'}⏎```
答案：B，因为A是错的
答案：（B）
答案选B。
正确答案是选项B，不是A。
正确选项为（B）
【答案】 B
故选B。
故选：B
所以选（B）。
因此应选B项
我选B，A和C都错误
本题选B
B不是A
B。因为A太小。
**答案：B**
先写答案：A，再改为答案：B。
It's blue, not red.
The ball is blue.
The color of the ball is blue, rather than green.
I think it is a blue ball
The answer is blue, not black
Blue, as the picture shows.
\boxed{2}
<answer>2</answer>
The answer is \boxed{\text{(B)}\ \text{blue}}
\boxed{\text{Option B}}
\boxed{\mathbf{B}}
<answer>The answer is B</answer>
<answer>B, because A is too small</answer>
<answer>Option (B)</answer>
<answer>It is blue.</answer>
<answer>故选B</answer>
<ANSWER>b</ANSWER>
<think>The answer is A.</think>The answer is B
ANSWER: B</think>ANSWER: [LETTER]
La réponse est B et non A
La respuesta correcta es B
""",
        wrong=r"""
The answer is A, not B
A or B
Answer: A, B
<answer>A or B</answer>
The answer is A or B
ANSWER: A B C D are all plausible
ANSWER: None of the above
答案：无法确定
It is not B.
B is wrong, A is right.
答案不是B，是A
The answer is red, not blue
red or blue
B. red
The answer is clear
\boxed{A, B}
\boxed{3}
排除B，选A
选A，不选B
The shape is B-like
""",
    ),
    *_readings(
        "choice",
        "B",
        choices=DIGITS,
        right=r"""
The answer is 4
\boxed{4}
Answer: (B) 4
<answer>B) 4</answer>
\boxed{\text{(B)}\ 4}
So there are 4
""",
    ),
    *_readings(
        "choice",
        "A",
        choices=DIGITS,
        right=r"""
\boxed{3}
There are 3.
答案：3
""",
    ),
    *_readings(
        "choice",
        "D",
        right=r"""
The answer is D
D. it can't be A or B
故选D
D
\boxed{D}
Option D is correct
""",
    ),
    *_readings(
        "expression",
        r"W(n) = 1 \text{ and } W(n) = -1",
        right=r"""
W(x)=1orW(x)=-1
So W(n) = 1 or W(n) = -1.
\boxed{W(n)=1}, \boxed{W(n)=-1}
""",
    ),
    *_readings(
        "expression",
        r"\frac{7.5}{2.71828}",
        right=r"""
$\frac{7.5}{2.71828} \approx 2.8$
The answer is $\frac{7.5}{2.71828}$, about 2.76.
""",
        wrong=r"""
2.8
""",
    ),
    *_readings(
        "expression",
        "22222200",
        right=r"""
is $\boxed{22,\! 222,\! 200}$
\boxed{22{,}222{,}200}
The answer is 22 222 200.
so 22,222,200 it is
""",
        wrong=r"""
is $\boxed{22, 222, 200}$
""",
    ),
    *_readings(
        "expression",
        "(3,4)",
        right=r"""
\boxed{\begin{aligned} x&=3 \\ y&=4\end{aligned}}
x = 3 and y = 4
The answer is $(3, 4)$, where $x=3$.
**Answer:** (3, 4)
""",
        wrong=r"""
\boxed{(4, 3)}
x = 4 and y = 3
""",
    ),
    *_readings(
        "expression",
        "x^2+y^2=9",
        right=r"""
The equation is $x^2 + y^2 = 9$.
\boxed{x^2+y^2=9}
so x² + y² = 9
""",
    ),
    *_readings(
        "expression",
        "4210_7",
        right=r"""
The answer is 4210 base 7.
The answer is $4210_7$
so 4210_{7}
**4210_7**
""",
        wrong=r"""
The answer is 4210 base 8.
The answer is $4210_8$
The answer is 4210
""",
    ),
    *_readings(
        "expression",
        "5 km north",
        right=r"""
The answer is 5 km north.
5 km north
""",
        wrong=r"""
The answer is 5 km south.
5 km south
""",
    ),
    *_readings(
        "expression",
        "3",
        right=r"""
Answer:⏎$$⏎3⏎$$
Answer:⏎\[⏎3⏎\]
The length is [3.0].
$2x = 6$, so $x = 3$.
The total is 3 (that is 1 + 2).
""",
        wrong=r"""
XY3Z
().__class__
3ab
""",
    ),
    *_readings(
        "number",
        "3",
        wrong=r"""
The answer is 3-4
The answer is 3x
The answer is 3:30
The answer is 3 and 4
The answer is ±3
The answer is 3\pi
<answer>3 to 4</answer>
<answer>3 and a half</answer>
3, 4
3abc
""",
    ),
    *_readings(
        "choice",
        "D",
        choices=DIGITS,
        right=r"""
Thus, the answer is $\boxed{\text{(D)}\ 6}$.
<think>⏎D is right since...⏎</think>⏎⏎"answer": "D"
因此，正确选项是（D）。
""",
        wrong=r"""
The answer is D. 5
"D. 3"
A. B. C. D.
""",
    ),
    *_readings(
        "nearest_choice",
        "B",
        choices=("yes", "no"),
        right=r"""
No, it is not the smoothest.
The answer is no.
Answer: (B)
no
""",
    ),
    *_readings(
        "yes_no",
        "yes",
        right=r"""
Yes it is.
The answer is yes, no doubt.
Yes, they are the same
**Yes**, no difference
<answer>Yes it is</answer>
答案：是
正确。
对
答案是对的
<answer>对</answer>
True, because no side is longer
<answer>The answer is yes</answer>
Answer: **True**
""",
        wrong=r"""
The answer is no.
No, yes would be wrong
不对
不是
不正确
yesterday
错，不是对的
""",
    ),
    *_readings(
        "yes_no",
        "no",
        right=r"""
No they are not.
The answer is no, not yes
错误
答案：否
不正确
答案是错的
False.
答案：不是
<answer>No there is not</answer>
Answer: A no.
\boxed{\text{No}}
""",
    ),
    *_readings(
        "text",
        "Paris",
        right=r"""
Paris
Paris.
**Paris**
"Paris"
Answer: "Paris"
The answer is **Paris**, the capital.
The answer is Paris, because it is large.
The answer is: Paris since it is
答案：Paris
{"answer": "Paris"}
<answer>The answer is Paris</answer>
<answer>Paris</answer>
\boxed{\text{Paris}}
Final answer: `Paris`
The correct answer is “Paris”.
The city is large.⏎Answer:⏎Paris
""",
        wrong=r"""
Rome
The answer is Rome, not Paris
Paris is not the answer. The answer is Rome.
""",
    ),
    *_readings(
        "text",
        "北京（中国）",
        right=r"""
答案：北京（中国）
北京（中国）
答案是北京（中国）。
""",
    ),
    *_readings(
        "set",
        "A, C",
        right=r"""
A, C
AC
Answer: A and C
答案：AC
故选AC
故选：A、C
答案：（A，C）
ANSWER: (A, C)
\boxed{A, C}
\boxed{A}, \boxed{C}
The answers are A and C.
<answer>The answer is A, C</answer>
<answer>A, C</answer>
""",
        wrong=r"""
A
A, B
A, B, C, D
故选ABC
\boxed{A}
答案：AB
""",
    ),
    *_readings(
        "set",
        "1, -2",
        right=r"""
The solutions are $x=1$ and $x=-2$.
1 and -2
\boxed{1} and \boxed{-2}
Answer: $\{1, -2\}$
{-2, 1}
The answer is x = 1 or x = -2.
答案：1和-2
""",
    ),
    *_readings(
        "integer",
        "2",
        right=r"""
There are two bars larger than 4.
The answer is 2 bars
2.0
<answer>There are 2 bars</answer>
答案：2个
""",
    ),
    *_readings(
        "rounded",
        "1.5",
        right=r"""
It is 1.5 m long.
The answer is 1½
\boxed{1.5\text{ m}}
so 3/2
""",
    ),
    *_readings(
        "relaxed",
        "1200",
        right=r"""
The answer is $1,200.
It grew to 1,210 in 3 years.
<answer>$1,200</answer>
about 1.2 thousand
""",
    ),
    *_readings(
        "relaxed",
        "South Asia",
        right=r"""
South Asia
The answer is South Asia.
Answer: **South Asia**
<answer>South Asia</answer>
""",
    ),
    *_readings(
        "expression",
        "x+1",
        wrong=r"""
The answer is x
$x+2$
The answer is $(x+1)^2$
1
""",
    ),
    # Endings of longer completions.
    *_readings(
        "number",
        "72",
        right=r"""
1. **Red beads**: 48⏎2. **Blue beads**: 48 / 2 = 24⏎⏎Therefore, Mira has **72 beads** after 2 days.
""",
    ),
    *_readings(
        "number",
        "10",
        right=r"""
A ticket costs $2.50.⏎⏎For 4 tickets they pay 4 x 2.50 = $10.⏎⏎The answer is $10.
""",
    ),
    *_readings(
        "number",
        "5",
        right=r"""
He saved 3 * 20 = $60.⏎The kite costs $65.⏎This means that he needs 65 - 60 = $5 more.
""",
    ),
    *_readings(
        "number",
        "42",
        right=r"""
Step 1: 20 + 22⏎Step 2: = 42⏎⏎So she should walk 42 km tomorrow (day 3).
""",
    ),
    *_readings(
        "number",
        "624",
        right=r"""
A box holds 12 cans⏎There are 52 boxes⏎That means they hold 12*52=624 cans in all
""",
    ),
    *_readings(
        "number",
        "35",
        right=r"""
There are 10 / 2 = 5 small trees... In total 35 trees are in the park.
""",
    ),
    *_readings(
        "number",
        "48",
        right=r"""
He laid 32 tiles in the hall and 16 in the bath, so he laid 48 tiles on that day.
""",
    ),
    *_readings(
        "number",
        "16",
        right=r"""
So the stone weighs 16 pounds, which is 256 ounces.
""",
    ),
    *_readings(
        "number",
        "41",
        right=r"""
Therefore, he is 41 years old now.
""",
    ),
    *_readings(
        "number",
        "990",
        right=r"""
The total is $990 for the 3 chairs.
""",
    ),
    *_readings(
        "number",
        "8",
        right=r"""
Answer: There are 8 more.
""",
    ),
    *_readings(
        "number",
        "3",
        right=r"""
**3**
""",
    ),
    *_readings(
        "number",
        "0.25",
        right=r"""
So the probability is $\frac{1}{4} = 0.25$.
""",
    ),
    *_readings(
        "number",
        "25",
        right=r"""
Let's verify: 5 × 5 = 25. ✓
""",
    ),
    *_readings(
        "number",
        "7",
        right=r"""
**Result:** 7
""",
    ),
    *_readings(
        "number",
        "12",
        right=r"""
Final answer: 12 🎉
""",
    ),
    *_readings(
        "number",
        "150",
        right=r"""
Total cost = 3 × $50 = $150
""",
    ),
    *_readings(
        "number",
        "9",
        right=r"""
So the missing number is: **9**.⏎⏎Hope this helps! Feel free to ask 1 more question.
""",
    ),
    *_readings(
        "expression",
        r"\frac{1}{2}",
        right=r"""
Thus the required probability is⏎$$P = \frac{3}{6} = \frac{1}{2}.$$
""",
    ),
    *_readings(
        "expression",
        r"2\sqrt{3}",
        right=r"""
Using the law of cosines, $c^2 = 12$, so $c = 2\sqrt{3}$.⏎⏎Thus, the length of side $c$ is $\boxed{2\sqrt{3}}$.
Using the law of cosines, $c^2 = 12$, so⏎\[⏎c = \sqrt{12} = 2\sqrt{3}.⏎\]
""",
    ),
    *_readings(
        "expression",
        "x^2-5x+6",
        right=r"""
Expanding, we get:⏎⏎\[⏎(x-2)(x-3) = x^2 - 5x + 6⏎\]⏎⏎So the expanded form is \(x^2 - 5x + 6\).
""",
    ),
    *_readings(
        "expression",
        r"(2,\infty)",
        right=r"""
Hence the domain is $(2, \infty)$, since we need $x - 2 > 0$.
""",
    ),
    *_readings(
        "expression",
        r"x<-1 \text{ or } x>3",
        right=r"""
So the solution is $x < -1$ or $x > 3$.
""",
    ),
    *_readings(
        "expression",
        r"-\frac{3}{2}, 1",
        right=r"""
Thus, the solutions are:⏎⏎\[ x = 1 \quad \text{or} \quad x = -\frac{3}{2} \]
""",
    ),
    *_readings(
        "expression",
        "y=-2x+7",
        right=r"""
So the equation of the line in slope-intercept form is:⏎⏎**y = -2x + 7**
""",
    ),
    *_readings(
        "expression",
        "15",
        right=r"""
Therefore the value of $3x$ when $x=5$ is $15$.
""",
    ),
    *_readings(
        "expression",
        r"90^\circ",
        right=r"""
So $\angle C = 180^\circ - 30^\circ - 60^\circ = 90^\circ$.
""",
    ),
    *_readings(
        "expression",
        r"\frac{7}{2}",
        right=r"""
Final Answer⏎⏎\[⏎\boxed{\dfrac{7}{2}}⏎\]⏎⏎This completes the solution.
""",
    ),
    *_readings(
        "expression",
        "10",
        right=r"""
$$\boxed{10}$$ is the number of ways to choose 3 from 5.
""",
    ),
    *_readings(
        "expression",
        "a+b",
        right=r"""
The simplified expression is $a+b$.
""",
    ),
    *_readings(
        "expression",
        "-i",
        right=r"""
So $z = -i$.
""",
    ),
    *_readings(
        "expression",
        "e^2",
        right=r"""
The limit is $e^2$.
""",
    ),
    *_readings(
        "expression",
        r"6 \text{ cm}",
        right=r"""
So the side length is 6 cm.
""",
    ),
    *_readings(
        "expression",
        r"\text{Thursday}",
        right=r"""
So it was a **Thursday**.
The day of the week is Thursday.⏎⏎\boxed{\text{Thursday}}
""",
    ),
    *_readings(
        "choice",
        "B",
        choices=("12", "15", "18", "20"),
        right=r"""
We compute 3 × 5 = 15.⏎⏎So the answer is (B) 15.
We compute 3 × 5 = 15.⏎⏎Therefore, there are 15 apples.
3 × 5 = 15, which matches option B.
The value is 15, so the correct option is **B**.
""",
    ),
    *_readings(
        "choice",
        "D",
        choices=("Increase", "Decrease", "No change", "Cannot be determined"),
        right=r"""
**Answer: D) Cannot be determined**⏎⏎We lack data about A and B.
""",
    ),
    *_readings(
        "choice",
        "A",
        choices=("Increase", "Decrease", "No change", "Cannot be determined"),
        right=r"""
Since prices fall, demand will increase. The answer is Increase.
""",
    ),
    *_readings(
        "choice",
        "C",
        choices=("Increase", "Decrease", "No change", "Cannot be determined"),
        right=r"""
There would be no change in the output.
""",
    ),
    *_readings(
        "choice",
        "C",
        choices=("甲", "乙", "丙", "丁"),
        right=r"""
解：由题意得……所以丙最高。⏎故答案为：丙
解析：A项错误，B项错误，D项错误。⏎故选：C.
综上所述，正确答案是C。因为甲、乙、丁都不满足条件。
所以正确答案是 **C. 丙**。
\boxed{\text{丙}}
""",
    ),
    *_readings(
        "choice",
        "A",
        choices=("12", "15", "18", "20"),
        right=r"""
Let me check each option.⏎⏎(A) works.⏎(B) fails.⏎(C) fails.⏎(D) fails.⏎⏎Thus the answer is $\boxed{\textbf{(A)}}$.
""",
    ),
    *_readings(
        "choice",
        "D",
        choices=("12", "15", "18", "20"),
        right=r"""
B is too small and C is too big, leaving D.
""",
    ),
    *_readings(
        "yes_no",
        "yes",
        right=r"""
Looking at the picture, the cube is red.⏎⏎So the answer is yes.
是的，图中有一只猫。
""",
    ),
    *_readings(
        "yes_no",
        "no",
        right=r"""
There is no such object in the image, so the answer is **No**.
答案：不是，图中没有猫。
""",
    ),
    *_readings(
        "text",
        "Amazon River",
        right=r"""
The longest river in South America is the **Amazon River**.⏎⏎Answer: Amazon River
""",
    ),
    *_readings(
        "set",
        "A, B, D",
        right=r"""
Statements A, B and D are true.⏎⏎Answer: A, B, D
故正确的选项为 ABD。
""",
    ),
    *_readings(
        "set",
        "2, 3",
        right=r"""
The solutions are x = 2 and x = 3.
Hence $x \in \{2, 3\}$.
""",
    ),
    *_readings(
        "number",
        "5",
        right=r"""
The correct answer is 5 and not 6.
The answer is [5].
So 5, not 6.
It can't be 6, so it must be 5.
John has 5 apples at the end of the 4 hours.
It must be less than 10, so it is 5.
Half of 10 is 5.
""",
        wrong=r"""
It is not 5.
The answer is not 5.
That can't be 5.
more than 5
It is half of 5.
It is between 4 and 5.
6 feet 5 inches
8 hours and 5 minutes
5 and a half hours
five and a half
""",
    ),
    *_readings(
        "expression",
        "3",
        right=r"""
It's not $5$; it's $3$.
The square root of 9 is 3.
""",
        wrong=r"""
The answer is the square root of 3.
It is not 3.
It is 4 to 3.
""",
    ),
    *_readings("expression", "1, -2", right=r"Final answer: $x=1$ or $x=-2$"),
    *_readings(
        "choice",
        "B",
        right=r"""
B选项正确
Only B is correct.
Only option B is true.
\boxed{(\text{B})}
B.⏎A: red is wrong.⏎C: green is wrong.
Between A and B, I choose B.
""",
        wrong=r"""
Either A or B.
The answer is either A or B.
I am torn between A and B.
\boxed{A \text{ or } B}
不能选B
Answer: Not B
""",
        choices=COLORS,
    ),
    *_readings(
        "choice",
        "C",
        right=r"""
2+3 = 5
5 apples
""",
        wrong=r"""
The answer is 5 + 4x.
The answer is 5 or 9.
""",
        choices=DIGITS,
    ),
    *_readings(
        "yes_no",
        "yes",
        right=r"""
所以正确。
It is really true.
""",
        wrong=r"""
Maybe yes, maybe no.
Not yes.
The statement is not true.
This isn't true.
It can't be true.
所以不正确。
""",
    ),
    *_readings("yes_no", "no", right=r"The statement is not true."),
    *_readings("set", "A, C", right="选AC"),
    *_readings(
        "expression",
        r"(-\infty,1)\cup(2,\infty)",
        right=r"""
So $x<1$ or $x>2$.
""",
        wrong=r"""
So $x<1$ and $x>2$.
The answer is x<1 and x>2.
""",
    ),
)
