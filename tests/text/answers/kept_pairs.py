"""Pairs of answers and references that have been graded rightly from the start, as in `notation_tables`."""

# By kind and choices.
KEPT = {
    ("expression", ()): r"""
        + -5 | -5
        + 1 000 | 1000
        + 1,000.0 | 1000.0
        + 1,000.99 | 1000.99
        + -\frac{10}{9} | -10/9
        + $[0,1)$ | $[0,1)$
        - $[0,9)$ | $(0,9)$
        + $\frac3{3} $ | $1$
        + $\cfrac{1}{3} $ | $1/3$
        + $\tfrac{1}{3} $ | $1/3$
        + $\left( \frac{1}{3} \right)$ | $1/3$
        + $\frac{1}{3} \text{meters}$ | $1/3$
        + $k = \frac{1}{3}$ | $1/3$
        + 28 percent | $28\%$
        + 28 % | $28\%$
        + $5 \geq x$ | $x \leq 5$
        + $x = 5+5+1 = 7 =11$ | $x = 11$
        + $x=11$ | $11$
        + $x=1/3\approx1.3$ | $1/3$
        - $x > -1$ | $x < 1$
        - $0$ | $a +3z = 0$
        - $1$ | $2x + z = 1$
        + $1$ | $k=1$
        + $z = 3+3 = 2$ | $z = 1 + 1 = 2$
        + $y=-\frac{1}{2}x+\frac{3}{4}$ | $2x+4y-3=0$
        + $\frac{x}{7}+\frac{2}{7}$ | $\frac{x+2}{7}$
        + $-34x-45y+20z-100=0$ | $34x+45y-20z+100=0$
        - $(+5)(b+2)$ | $(a+5)(b+2)$
        - $\frac{34}{16}+\frac{\sqrt{1358}}{16}$ | $4$
        - $x+1$ | $x+2n+1$
        - ${1,3}$ | $(3,1)$
        + $\boxed{1,2}$ | $\boxed{1}\boxed{2}$
        + $-2 \\le x \\le 7$ | $x \in [-2,7]$
        - $4\sqrt{2}$ | $4$
        + ${35 cm,4}$ | $\\boxed{35 cm} ++++++ \\boxed{4}$
        + $\boxed{\{-12, -11, -10, -8, -7, -6\}}$ | $-12;-11;-10;-8;-7;-6$
        + $\boxed{(7,11),\ (11,7)}$ | $(11,7)or(7,11)$
        + $\frac{1}{\sqrt{6}}$ | $\frac{NO}{BO}=\frac{1}{\sqrt{6}}$
        + $(3,2,7)$ | $(p,q,r)=(3,2,7)$
        + $e$ | $\text{e}$
        - $\text{E}$ | $d$
        + $\boxed{(3, 2)}$ | $(p,q)=(3,2)$
        + $\boxed{-10,-8,4}$ | \boxed{a=4,\,-8,\,-10}
        + $p=-1,p=\frac{15}{8}$ | \n\n\[ \boxed{p = -1 \text{ and } p = \dfrac{15}{8}} \]
        + $\boxed{6,8}$ | \(\boxed{6 \text{ and } 8}\)
        + $${2, 3, 5, 7, 13}$$ | $$\boxed{2}, \boxed{3}, \boxed{5}, \boxed{7}, \boxed{13}$$
        + $$(-793, 10)$$ | $$-793 < a < 10$$
        + $$\boxed{a_{37} = 19, \quad a_3 = 2}$$ | $$a_3 = 2, a_{37} = 19$$
        + $$(1, +\infty)$$ | $$(1, +\infty)$$
        + $$\boxed{0.06 \text{ yuan}}$$ | $$0.06 \text{ yuan}$$
        + $$\boxed{667}$$ | $$667$$
        + $$\boxed{(2, 2)} \quad \text{and} \quad \boxed{(6, 2)}$$ | $$(2, 2), (6, 2)$$
        + $$\boxed{(3, 3)} \text{ for part (a) and } \boxed{(1, 1)}$$ | $$(3, 3), (1, 1)$$
        + $$\boxed{k = 45} \quad \text{and} \quad \boxed{n = 2}$$ | $$k = 45, n = 2$$
        + $$1$$ | $$A:B=1$$
        + $\boxed{1,2}$ | \boxed{1} papers and \boxed{2} bins
        + $n=1, 2, 3$ | $n=1, 2, 3$
        + $D = (0, 1)$ | $D = (0, 1)$
        - $F_n = \sum_{k=0}^{n-2} F_k F_{n-k-2}$ | $F_n = \sum_{k=0}^{n-1} F_k F_{n-k-1}$
        + $19, 46, \text{ and } 82$ | $19, 46, and 82$
        + $1 - \frac{1}{\mathrm{e}}$ | $1 - \frac{1}{\mathrm{e}}$
        + ${-2021, 2021}$ | $\pm 2021$
        + $12:00$ | $12:00$
        + $\{1,2,3\}$ | $\{3, 2, 1\}$
        + (3*sqrt(5))/7 | \frac{3\sqrt{5}}{7}
        + (-\infty,-8)\cup (8,\infty) | (-\infty,-8)\cup (8,\infty)
        + $g(x)=\frac{1}{3} ((2x)^a +(2x)^{-a})$ for some $a>0$ | $g(x)=\frac{1}{3} ((2x)^a +(2x)^{-a})$ for some $a>0$
        + x=2 | 2=x
        + \frac{6\sqrt{1789-240\sqrt{21}}+8\sqrt{1236-240\sqrt{21}}}{5} | 96-10\sqrt{21}
        + 33.5\% | 0.335
        + 33.5 percentage | 0.335
        + \frac{1}{2}\% | 0.005
        + 1,234 | 1234
        + 1,234.5 | 1234.5
        + 1,000,000 | 1000000
        + 12\,345\,678 | 12345678
        + 0.5 | 1/2
        + 0.335 | 33.5\%
        + x=2 | 2
        + 2 | y = 2
        + odd $n$ | odd $n$
        + (1, 2) | (1, 2)
        + [1,2] | [1,2]
        + 1,2345 | 1,2345
        - [0] | 2
        - (0, 1) | 2
        - 100000000000000000000 | 100000000001000000000
        - (1,2) | 12
        - 1,23 | 12
        + 42 | 42
        + 0.0000001 | 0.0000001
        + 5 | 5
        + 5.0 | 5
        + 0.5 | \frac{1}{2}
        + 918.5 | 918\frac{1}{2}
        + x^2 + 2*x + 1 | x^2+2x+1
        + x^2 + 2*x - (-1) | x^2+2x+1
        + 2x+ 1+x^2 | y = x^2+2x+1
        + \mathrm{E} | E
        + \textbf{A} | A
        + f' | f'
        + 185\ | 185\
        + 0.185 | .185
        + 0.5 | \frac {1}{2}
        + 17 | 17\text{ any text}
        + 10 | \$10
        + 10 | 10%
        + 10 | 10\%
        + \frac{5}{2} | 2.5
        + \dfrac{1}{3} | \frac{1}{3}
        + (r+5)^2 | (r+5)(r+5)
        + \frac{\sqrt{3}}{3} \approx 0.577 | \frac{\sqrt{3}}{3}
        - 5 | 5.001
        - x^2+2x+1 | x^3+2x+1
        - odd | \text{oddd}
        - E | \mathrm{E}*2
        - \sqrt{67},-\sqrt{85} | \sqrt{67}
        - \\frac{1}{2} + 2/3 | \tfrac{1}{2} + \frac1{72}
        - 4, 12, 2 | 10, 4, 2
        + \\dfrac{1}{2} +\frac{1}{72} | \tfrac{1}{2} +\! \frac1{72}
        + \$10 | 10
        + (x-2)(x+2) | \left(x-2\right)\left(x+2\right)
        + .1 | 0.1
        + 10\sqrt3 + \sqrt{4} | 10\sqrt{3} + \sqrt4
        + \frac{3}{4}i | \frac34i
        + \frac{8}{3} | \tfrac83
        - x + y - z + 2 = 0 | 5x - 7y + 11z + 4 = 0
        + \frac{1}{2} | 1/2
        + 1 1/2 | 1.5
        + 1\frac12 | 1.5
        + .1, 4.0 | 0.1, 4
        + 10\% | 0.1
        + 7, -2, \text{ and } -5 | -5,-2,7
        + [x, x + 1] | [x, 1 + x]
        + \tfrac23 +\frac1{72} | \\dfrac{2}{3} +\frac{1}{72}
        + $\frac{4\sqrt{5}}{5}$ | $\frac{4\sqrt{5}}{5}$
        + 10\text{ units} | 10
        + 10 \text{cm} | 10
        + 10\text{ cm}^{2} | 10
        + 10 weeks | 10
        + 10\sqrt{3} + \sqrt4 | 10\sqrt3 + \sqrt{4}
        - 5x - 7y + 11z + 4 = 0 | x + y - z + 2 = 0
        + 11z^{7}(5+11z^{7}) | 11z^7(11z^7+5)
        + (2x+3)(2x -1)(2x+1) | (2x - 1)(2x + 1)(2x + 3)
        + \begin{pmatrix} 1 & 1/2 \\ 1/3 & 4 \end{pmatrix} | \begin{pmatrix} 1 & 0.5 \\ 1/3 & 4 \end{pmatrix}
        + \sec x | \frac1{\cos x}
        - [-3,2] | (-3,2)
        + x = 1, y = 2, z = 3 | 1, 2, 3
        + (1,4.5) | (1,\frac{9}{2})
        + \sec^2(y) | \tan^2(y)+1
        + -34x-45y+20z-100=0 | 34x+45y-20z+100=0
        - (+5)(b+2) | (a+5)(b+2)
        - \frac{34}{16}+\frac{\sqrt{1358}}{16} | 4
        - x+1 | x+2n+1
        + 4210_{\text{seven}} | 4210_7
        + 4210_7 | 4210_{7}
        + AB_{16} | AB_{16}
        - AB_{16} | BA_{16}
        + 5 cm | 5\text{ cm}
        - 9 AM | 9 PM
        + 21\pi/2 | \frac{21}{2}\pi
        + 10.5π | \frac{21}{2}\pi
        + (1/2)x | \frac{x}{2}
        + 3/2+(3/2)i | \frac{3}{2} + \frac{3}{2} i
        + 2*pi | 2\pi
        + sqrt(3)/2 | \frac{\sqrt{3}}{2}
        + x=1, y=3 | (1,3)
        + (x,y) = (1,3) | (1,3)
        + (1;3) | (1,3)
        + (1.0, 3) | (1,3)
        + (1,3),(2,4) | (2,4),(1,3)
        - (3,1),(2,4) | (1,3),(2,4)
        + (3,\infty)\cup(-\infty,2) | (-\infty, 2) \cup (3, \infty)
        + x \neq 2 | (-\infty,2)\cup(2,\infty)
        + (-infinity, 2) | (-\infty,2)
        + -2\leq x<7 | [-2,7)
        + x>2 | (2,\infty)
        - x\ge2 | x>2
        + k>-0.25 | k>-\frac14
        + x=2 or -3 | 2,-3
        + -3,2,2 | 2,-3
        - 3 | \pm 3
        + x = ±3 | \pm 3
        + x=3, x=-3 | \pm 3
        + \frac{-1\pm\sqrt{5}}{2} | \frac{-1+\sqrt5}{2},\frac{-1-\sqrt5}{2}
        - 1, 2, 3, 4 | 1,2,3
        - a=1,b=2 | a=2,b=1
        + {1,2,3} | 1,2,3
        + 2x+3 | y=2x+3
        + 2x-y=-3 | y=2x+3
        + 2y=4x+6 | y=2x+3
        + (x-1)^2+(y-2)^2=9 | x^2+y^2-2x-4y-4=0
        - x=5 | n=5
        + \theta = 30^\circ | 30^\circ
        + m\angle ABC = 30 | 30
        + P(A) = 1/2 | \frac12
        + f(3)=5 | 5
        + a_n = 2n+1 | 2n+1
        + k=\frac{1}{2} | 0.5
        + \sqrt{25} = 5 | 5
        + 5 = 5 | 5
        + \text{Evelyn}. | \text{Evelyn}
        - Evelyn's | \text{Evelyn}
        + \text{A} | \text{(A)}
        + A. | A
        - B | A
        + C, A | A,C
        + True | \text{True}
        - False | \text{True}
        - No | yes
        + June 20 | \text{June 20}
        - red | blue
        - listen | silent
        - cat | act
        + east | \text{east}
        - \text{seat} | \text{east}
        - \mathrm{cat} | \mathrm{act}
        + TTH | \text{TTH}
        - \text{HTT} | \text{TTH}
        - ABCD | DCBA
        - \overline{AB} | \overline{CD}
        + 5 million | 5000000
        + $5 | \$5
        + \$5.00 | 5
        - 500 cents | \$5
        + \$-5 | -5
        + \$\frac{1}{2} | 0.5
        - 1.234,50 | 1234.5
        - 3:30 | 3:31
        - 1:2:3 | 1:2:4
        + 50 | 50\%
        + \frac12 | 50\%
        + 50 percent | 50\%
        + 1/3 | 33\frac13\%
        - 33.3\% | \frac{1}{3}
        + 10^3 | 1000
        + 1.5E-3 | 0.0015
        + 1.5 \cdot 10^{-3} | 1.5\times10^{-3}
        + 6.02 \times 10^{23} \text{ atoms} | 6.02\times10^{23}
        + 10^{-1} | 0.1
        + 1024 | 2^{10}
        + 120 | 5!
        + \frac{10!}{8!} | 90
        + 2^{100} | 1267650600228229401496703205376
        + \sqrt{16} | 4
        + \ln e | 1
        + \lfloor 5.5 \rfloor | 5
        + x=5 | 5
        + 5，6 | 5,6
        + x＝5 | 5
        + ５０％ | 50\%
        + 60° | 60
        + ＜ | <
        + 5$\text{个}$ | 5
        - y=\cos 30t | y=\cos 10t
        - I_p=2 | I_p=3
        - e=2x | e=3x
        - N=2x | N=3x
        - Q=2x | Q=3x
        - C=2x | C=3x
        - y_p=2x | y_p=3x
        - V=\frac13\pi r^2h | V=\pi r^2h
        - y=\cos x | y=\sin x
        - x = 2\cos(30 t) | x = 3\cos(10t)
        + y=2x | y=2x
        - y-2x=1 | y=2x
        + x^2-4=0 | x^2=4
        - 3x+5=11 | 2
        - x = 3*14 | 42
        - x=40+2 | x=42
        - x^2+50 | x^2+121
        - \frac{x^2}{4}+y^2=1 | \frac{x^2}{9}+y^2=1
        - y=x^2 | x=y^2
        - H_2O | HO_2
        - x^2 | x2
        - g(x) | f(x)
        - Set A | Set B
        - Type II | Type III
        - option 2 | option 3
        - 12 pm | 12 am
        - 10 red | 10 blue
        - \frac12\text{ hour} | \frac12\text{ minute}
    """,
    ("choice", ()): r"""
        + C | C
        + A | A
    """,
    ("number", ()): r"""
        - 5abc | 5
        + 10.5% | 10.5%
        + 0 | 0
        + はい | はい
        + 100百万円 | 100百万円
        + １２３ | 123
        + 5 apples. | 5
        + ~5 | 5
        - 5-6 | 5
        + 5 pounds | 5 lb
        + 5 lbs. | 5
        + 5 in. | 5 inches
        + 5 ft² | 5 square feet
        + 5 cu cm | 5 cm^3
        + 5 litres | 5 liters
        + 5m | 5
        - 5x | 5
        + 5 h | 5 hours
        + 5 sec | 5 s
        + 5 mins | 5 minutes
        + 5 years old | 5
        + 5 per day | 5
        + 5 each | 5
        + 5 left | 5
        + $5 each | 5
        + $1.5 billion | 1500000000
        + 10 000 | 10000
        - 1,00 | 100
        + 1,000.5 | 1000.5
        - 1.000 | 1000
        + +5 | 5
        + (5) | 5
        - 5? | 5
        + 50% | 50
        + 50 % | 50%
        + 5 percent | 5
        + 2½ | 2.5
        + 1⁄2 | 0.5
        + \frac{7}{2} | 3.5
        - 7÷2 | 3.5
        + 5 pommes | 5
        + 5€ | €5
    """,
    ("relaxed", ()): r"""
        + abc | Abc
        + 100% | 96%
        + 100% | 0.96
        - Don't | Won't
    """,
    ("choice", ("1", "2", "3", "4")): r"""
        + \text{D} | D
        + (D) 4 | D
        + D) $4$ | D
        + D: 4 | D
        + D.4 | D
        + $4$ | D
        - C or D | D
        - 3 | D
        - D. 3 | D
        + **D. 4** | D
        - A | D
        + Ｄ | D
        + D) 4 apples | D
    """,
    ("yes_no", ()): r"""
        - Incorrect | yes
        + Yes - they are | yes
        + "Yes" | yes
        + **Yes.** The two | yes
    """,
    ("set", ()): r"""
        + A and C | A, C
        + A，C | A, C
        + A, C and D | A, C, D
        + \text{A, C} | A, C
        + \{A,C\} | A, C
        - BAD | BAE
        + x = 1 and x = 2 | 1,2
        + x = 1, 2 | 2, 1
        - 1 / 2 | 1,2
        + 1, 2, 2 | 1,2
        + -1, 1 | \pm 1
        + (1,2),(3,4) | (3,4),(1,2)
        + \frac12,\frac13 | 0.5,1/3
        + Rock and roll | Rock and roll
    """,
    ("text", ()): r"""
        + paris | Paris
    """,
}
